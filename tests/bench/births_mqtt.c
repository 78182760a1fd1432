// Provisioning over open MQTT sessions, one request under way in each. BODIES is a file of requests,
// a line each, and the load ends when it does. At the end it waits for every answer: as many devices
// as `ok` says must be in the store then.
// build: cc -O2 -o births_mqtt births_mqtt.c
// run:   BODIES=file ./births_mqtt 127.0.0.1 1883 SESSIONS SECONDS
#define IN_BYTES 8192  // an answer holds two certificates in PEM, and one without
#include "mqtt.h"

#define MAX_LINE 2048
#define MAX_SAMPLES 1000000
#define PATIENCE_S 15
#define ASK "/provision/request"
#define ANSWER "/provision/response"

typedef struct {
    line line;
    double asked_at;
    int waiting;
} session;

static FILE *bodies;
static long asked, answered, refused;
static int ready, exhausted;
static double *samples;

static void ask(session *s) {
    static char body[MAX_LINE];
    static unsigned char out[MAX_LINE + 64];
    if (!fgets(body, sizeof body, bodies)) {
        exhausted = 1;
        return;
    }
    s->asked_at = now();
    s->waiting = 1;
    send_all(s->line.fd, out,
             put_publish(out, ASK, 1 + asked % 60000, body, strcspn(body, "\n")));
    asked++;
}

static int is_success(const unsigned char *body, int length) {
    static const char wanted[] = "\"status\":\"SUCCESS\"";
    return memmem(body, length, wanted, sizeof wanted - 1) != NULL;
}

static void take(void *owner, int first, unsigned char *body, int length) {
    session *s = owner;
    unsigned char out[256];
    if (first == CONNACK) {
        if (body[1])
            fail("a login was refused");
        send_all(s->line.fd, out, put_subscribe(out, ANSWER));
    } else if (first == SUBACK) {
        ready++;
    } else if ((first & 0xf0) == PUBLISH) {
        if (first & 6)
            acknowledge(&s->line, body + id_at(body));
        if (answered < MAX_SAMPLES)
            samples[answered] = now() - s->asked_at;
        s->waiting = 0;
        is_success(body, length) ? answered++ : refused++;
    }
}

static int wait_events(int poll, int asking) {
    struct epoll_event events[256];
    int n = epoll_wait(poll, events, 256, 50);
    for (int i = 0; i < n; i++) {
        session *s = events[i].data.ptr;
        receive(&s->line, s, take);
        if (asking && !s->waiting)
            ask(s);
    }
    return n;
}

int main(int argc, char **argv) {
    char *path = getenv("BODIES");
    if (argc != 5 || !path || !(bodies = fopen(path, "r")))
        fail("usage: BODIES=file births_mqtt HOST PORT SESSIONS SECONDS");
    int count = atoi(argv[3]), poll = epoll_create1(0);
    session *sessions = calloc(count, sizeof *sessions);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    for (int i = 0; i < count; i++) {
        unsigned char out[256];
        sessions[i].line.fd = dial(argv[1], atoi(argv[2]));
        send_all(sessions[i].line.fd, out, put_connect(out, "provision"));
        watch(poll, sessions[i].line.fd, &sessions[i]);
    }
    for (double deadline = now() + PATIENCE_S; ready < count;) {
        if (now() > deadline)
            fail("not every session was accepted in time");
        wait_events(poll, 0);
    }
    double began = now();
    for (int i = 0; i < count; i++)
        ask(&sessions[i]);
    while (!exhausted && now() < began + atof(argv[4]))
        wait_events(poll, 1);
    double seconds = now() - began;
    long in_time = answered;
    for (double deadline = now() + PATIENCE_S; answered + refused < asked && now() < deadline;)
        wait_events(poll, 0);
    printf("sessions=%d ok=%ld rej=%ld lost=%ld rate=%.0f/s", count, answered, refused,
           asked - answered - refused, in_time / seconds);
    print_latencies(samples, answered < MAX_SAMPLES ? answered : MAX_SAMPLES);
    return 0;
}
