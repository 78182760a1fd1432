// CoAP telemetry load: confirmable posts of readings, so many on their way at once, from as many
// ports. A post is repeated after 2 s and given up after 15 s. At the end it waits for every
// answer: exactly `ok` readings must be in the store then.
// build: cc -O2 -o coap_telemetry coap_telemetry.c
// run:   TOKENS=token1,token2,... ./coap_telemetry 127.0.0.1 5683 IN_FLIGHT SOURCE_PORTS SECONDS
#include "coap.h"

#define MAX_DEVICES 1024
#define MAX_SAMPLES 20000000

typedef struct {
    int fd;
    uint16_t next_id;
} port;

typedef struct {
    int port, busy, length;
    uint32_t sequence;
    double began, sent_at;
    unsigned char bytes[256];
} post;

static struct { char *token; long long sent; } devices[MAX_DEVICES];
static port *ports;
static post *posts;
static int device_count, port_count, at_once;
static long sent, answered, repeated, lost, refused;
static long long base;
static double *samples;

static void begin(int number) {
    static int next_port;
    post *p = &posts[number];
    int device = sent++ % device_count, last = 0, id = 50;
    p->port = next_port++ % port_count;
    p->busy = 1;
    p->sequence++;
    int n = put_head(p->bytes, POST, ++ports[p->port].next_id, number, p->sequence);
    n += put_path(p->bytes + n, &last, devices[device].token, "telemetry");
    n += put_option(p->bytes + n, &last, CONTENT_FORMAT, (char *)&id, 1);
    p->bytes[n++] = 0xff;
    long long count = devices[device].sent++;
    n += sprintf((char *)p->bytes + n, "{\"ts\":%lld,\"values\":{\"level\":%lld}}", base + count,
                 count);
    p->length = n;
    p->began = p->sent_at = now();
    send(ports[p->port].fd, p->bytes, n, 0);
}

static void take(const unsigned char *message, int going_on) {
    uint32_t number, sequence;
    memcpy(&number, message + 4, 4);
    memcpy(&sequence, message + 8, 4);
    if (number >= at_once || !posts[number].busy || posts[number].sequence != sequence)
        return;
    posts[number].busy = 0;
    refused += message[1] != 0x41;  // 2.01
    if (answered < MAX_SAMPLES)
        samples[answered] = now() - posts[number].began;
    answered++;
    if (going_on)
        begin(number);
}

static void wait_events(int poll, int going_on) {
    struct epoll_event events[512];
    unsigned char message[2048];
    int n = epoll_wait(poll, events, 512, 20), length;
    for (int i = 0; i < n; i++) {
        port *p = events[i].data.ptr;
        while ((length = recv(p->fd, message, sizeof message, 0)) >= 4) {
            if (kind_of(message) == CON)
                acknowledge(p->fd, message);
            if (is_answer(message, length))
                take(message, going_on);
        }
    }
}

// Repeats what was not answered; how many still wait.
static int look_after(void) {
    int busy = 0;
    double t = now();
    for (int i = 0; i < at_once; i++) {
        post *p = &posts[i];
        if (p->busy && t - p->began > GIVE_UP_AFTER_S) {
            p->busy = 0;
            lost++;
        } else if (p->busy && t - p->sent_at > ANSWER_AFTER_S) {
            p->sent_at = t;
            repeated++;
            send(ports[p->port].fd, p->bytes, p->length, 0);
        }
        busy += p->busy;
    }
    return busy;
}

int main(int argc, char **argv) {
    char *tokens = getenv("TOKENS");
    if (argc != 6 || !tokens)
        fail("usage: TOKENS=token,... coap_telemetry HOST PORT IN_FLIGHT SOURCE_PORTS SECONDS");
    struct sockaddr_in address = server_address(argv[1], atoi(argv[2]));
    at_once = atoi(argv[3]);
    port_count = atoi(argv[4]);
    ports = calloc(port_count, sizeof *ports);
    posts = calloc(at_once, sizeof *posts);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    base = first_ts();
    tokens = strdup(tokens);
    for (char *token = strtok(tokens, ","); token && device_count < MAX_DEVICES;
         token = strtok(NULL, ","))
        devices[device_count++].token = token;
    int poll = epoll_create1(0);
    for (int i = 0; i < port_count; i++) {
        ports[i].fd = udp_to(&address);
        watch(poll, ports[i].fd, &ports[i]);
    }
    double began = now(), looked = began;
    for (int i = 0; i < at_once; i++)
        begin(i);
    long in_time = 0;
    double end = began + atof(argv[5]);
    for (;;) {
        double t = now();
        if (!in_time && t >= end)
            in_time = answered;
        if (t - looked > 0.2 || t >= end) {
            looked = t;
            if (!look_after() && t >= end)
                break;
        }
        wait_events(poll, t < end);
    }
    printf("in_flight=%d ports=%d ok=%ld err=%ld lost=%ld retr=%ld rate=%.0f/s", at_once,
           port_count, answered, refused, lost, repeated, in_time / (end - began));
    print_latencies(samples, answered < MAX_SAMPLES ? answered : MAX_SAMPLES);
    return 0;
}
