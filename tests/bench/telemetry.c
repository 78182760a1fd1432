// MQTT telemetry load: one session per device, readings at QoS 1 with a window of unacknowledged
// publishes kept full. The rate counts PUBACKs; a latency is from PUBLISH to its PUBACK. With
// CHILDREN the sessions are gateways, and each message has one reading of each of its children.
// At the end it waits for every PUBACK: exactly `ok` messages must be in the store then.
// build: cc -O2 -o telemetry telemetry.c
// run:   TOKENS=token1,token2,... ./telemetry 127.0.0.1 1883 WINDOW SECONDS [CHILDREN]
#include "mqtt.h"

#define MAX_SESSIONS 1024
#define MAX_WINDOW 100  // a gateway announces how many it takes; 100 is its default
#define MAX_CHILDREN 1000
#define MAX_MESSAGE 65536
#define MAX_SAMPLES 20000000
#define PATIENCE_S 15

typedef struct {
    line line;
    int number, ready, in_flight;
    uint16_t next_id;
    long long sent;
    double sent_at[65536];
} session;

static session *sessions[MAX_SESSIONS];
static int count, ready, window, children;
static long acked;
static long long base;
static double *samples;
static long sample_count;

static int put_reading(char *out, session *s) {
    long long ts = base + s->sent;
    if (!children)
        return sprintf(out, "{\"ts\":%lld,\"values\":{\"temperature\":%.2f,\"humidity\":%lld}}", ts,
                       20 + (s->sent % 500) / 100.0, 40 + s->sent % 10);
    int n = 0;
    for (int i = 0; i < children; i++)
        n += sprintf(out + n, "%c\"child-%d-%d\":[{\"ts\":%lld,\"values\":{\"level\":%lld}}]",
                     i ? ',' : '{', s->number, i, ts, s->sent);
    out[n++] = '}';
    return n;
}

// Small messages leave together, large ones by themselves.
static void fill_window(session *s) {
    static char payload[MAX_MESSAGE * 2];
    static unsigned char out[MAX_MESSAGE + 128], batch[MAX_WINDOW * 192];
    const char *topic = children ? "v1/gateway/telemetry" : "v1/devices/me/telemetry";
    int held = 0;
    double t = now();
    for (; s->in_flight < window; s->in_flight++, s->sent++) {
        s->next_id = s->next_id % 65535 + 1;
        s->sent_at[s->next_id] = t;
        int length = put_reading(payload, s);
        if (length > MAX_MESSAGE - 128)
            fail("a message is larger than a packet may be");
        length = put_publish(out, topic, s->next_id, payload, length);
        if (held + length > sizeof batch) {
            send_all(s->line.fd, batch, held);
            held = 0;
        }
        if (length > sizeof batch) {
            send_all(s->line.fd, out, length);
        } else {
            memcpy(batch + held, out, length);
            held += length;
        }
    }
    send_all(s->line.fd, batch, held);
}

static void take(void *owner, int first, unsigned char *body, int length) {
    session *s = owner;
    if (first == CONNACK) {
        if (body[1])
            fail("a login was refused");
        s->ready = 1;
        ready++;
    } else if (first == PUBACK) {
        s->in_flight--;
        acked++;
        if (sample_count < MAX_SAMPLES)
            samples[sample_count++] = now() - s->sent_at[body[0] << 8 | body[1]];
    }
}

static void open_session(const char *host, int port, const char *token, int poll) {
    session *s = calloc(1, sizeof *s);
    unsigned char out[256];
    s->number = count;
    s->line.fd = dial(host, port);
    send_all(s->line.fd, out, put_connect(out, token));
    watch(poll, s->line.fd, s);
    sessions[count++] = s;
}

static void wait_events(int poll, int filling) {
    struct epoll_event events[256];
    int n = epoll_wait(poll, events, 256, 50);
    for (int i = 0; i < n; i++) {
        session *s = events[i].data.ptr;
        receive(&s->line, s, take);
        if (filling)
            fill_window(s);
    }
}

static long unacknowledged(void) {
    long total = 0;
    for (int i = 0; i < count; i++)
        total += sessions[i]->in_flight;
    return total;
}

int main(int argc, char **argv) {
    char *tokens = getenv("TOKENS");
    if (argc < 5 || !tokens)
        fail("usage: TOKENS=token,token,... telemetry HOST PORT WINDOW SECONDS [CHILDREN]");
    window = atoi(argv[3]);
    children = argc > 5 ? atoi(argv[5]) : 0;
    if (window < 1 || window > MAX_WINDOW || children < 0 || children > MAX_CHILDREN)
        fail("the window must be 1 to 100, and children at most 1000");
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    base = first_ts();
    int poll = epoll_create1(0);
    tokens = strdup(tokens);
    for (char *token = strtok(tokens, ","); token && count < MAX_SESSIONS; token = strtok(NULL, ","))
        open_session(argv[1], atoi(argv[2]), token, poll);
    double deadline = now() + PATIENCE_S;
    while (ready < count) {
        if (now() > deadline)
            fail("not every session was accepted in time");
        wait_events(poll, 0);
    }
    double began = now();
    for (int i = 0; i < count; i++)
        fill_window(sessions[i]);
    while (now() < began + atof(argv[4]))
        wait_events(poll, 1);
    double seconds = now() - began;
    long in_time = acked;
    for (deadline = now() + PATIENCE_S; unacknowledged() && now() < deadline;)
        wait_events(poll, 0);
    printf("sessions=%d window=%d ok=%ld lost=%ld rate=%.0f/s", count, window, acked,
           unacknowledged(), in_time / seconds);
    print_latencies(samples, sample_count);
    return 0;
}
