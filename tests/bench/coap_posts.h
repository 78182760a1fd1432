// Confirmable posts over CoAP, so many on their way at once, from as many ports. One is repeated after
// 2 s and given up after 15 s. At the end every answer is waited for. Who includes this says what is
// posted, and how many at the most fit into its run.
#include "coap.h"

#define MAX_SAMPLES 20000000
#ifndef POST_BYTES
#define POST_BYTES 256
#endif

typedef struct {
    int fd;
    uint16_t next_id;
} port;

typedef struct {
    int port, busy, length;
    uint32_t sequence;
    double began, sent_at;
    unsigned char bytes[POST_BYTES];
} post;

static port *ports;
static post *posts;
static int port_count, at_once;
static long sent, answered, repeated, lost, refused;
static double *samples;

// What follows the head of a post; how long it is. None: there is nothing more to post.
static int put_post(unsigned char *out);
// Whether an answer is a good one.
static int is_good(const unsigned char *message, int length);

static void begin(int number) {
    static int next_port;
    post *p = &posts[number];
    int body = put_post(p->bytes + 4 + TOKEN_BYTES);
    if (!body)
        return;
    sent++;
    p->port = next_port++ % port_count;
    p->busy = 1;
    p->sequence++;
    p->length = body + put_head(p->bytes, POST, ++ports[p->port].next_id, number, p->sequence);
    p->began = p->sent_at = now();
    send(ports[p->port].fd, p->bytes, p->length, 0);
}

static void take(const unsigned char *message, int length, int going_on) {
    uint32_t number, sequence;
    memcpy(&number, message + 4, 4);
    memcpy(&sequence, message + 8, 4);
    if (number >= at_once || !posts[number].busy || posts[number].sequence != sequence)
        return;
    posts[number].busy = 0;
    refused += !is_good(message, length);
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
                take(message, length, going_on);
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

static void post_all(const char *host, int port_number, double seconds) {
    struct sockaddr_in address = server_address(host, port_number);
    ports = calloc(port_count, sizeof *ports);
    posts = calloc(at_once, sizeof *posts);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    int poll = epoll_create1(0);
    srand(getpid() ^ (unsigned)(now() * 1e6));
    for (int i = 0; i < port_count; i++) {
        ports[i].fd = udp_to(&address);
        ports[i].next_id = rand();  // a port may be one of an earlier run, whose ids are remembered
        watch(poll, ports[i].fd, &ports[i]);
    }
    double began = now(), looked = began;
    for (int i = 0; i < at_once; i++)
        begin(i);
    long in_time = 0;
    double end = began + seconds;
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
}
