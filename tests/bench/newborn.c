// New devices over MQTT, a connection for each: from the TCP connection to the last answer.
//   claim: CONNECT as `device` with a token, and info/mcu acknowledged. TOKENS is a file with one
//          in each line, TEMPLATE what they are; the load ends when the file does.
//   birth: CONNECT as `provision`, a request of ThingsBoard's, and its answer.
// At the end it waits for every answer: exactly `ok` devices must be in the store then.
// build: cc -O2 -o newborn newborn.c
// run:   TOKENS=file TEMPLATE=.. ./newborn claim 127.0.0.1 1883 AT_ONCE SECONDS
//        PROVISION_KEY=.. PROVISION_SECRET=.. ./newborn birth 127.0.0.1 1883 AT_ONCE SECONDS
#include "mqtt.h"

#define MAX_SAMPLES 1000000
#define PATIENCE_S 15
#define ANSWER "/provision/response"

typedef struct {
    line line;
    double began_at;
    long number;
    int done;
} device;

static FILE *tokens;
static const char *host, *template, *key, *secret;
static int port, poll_fd, exhausted;
static long begun, answered, refused;
static double *samples;

static int put_login(unsigned char *out, const char *user, const char *password) {
    unsigned char body[256];
    int n = put_text(body, "MQTT");
    body[n++] = 4;                       // 3.1.1
    body[n++] = password ? 0xc2 : 0x82;  // user name, password, clean session
    body[n++] = 0;
    body[n++] = 45;  // keep-alive in seconds
    n += put_text(body + n, "");
    n += put_text(body + n, user);
    if (password)
        n += put_text(body + n, password);
    return put_packet(out, 0x10, body, n);
}

// The next device, or none when there is no token left.
static void begin(device *d) {
    char token[128] = "";
    unsigned char out[512];
    if (tokens) {
        if (!fgets(token, sizeof token, tokens)) {
            exhausted = 1;
            return;
        }
        token[strcspn(token, "\n")] = 0;
    }
    memset(d, 0, sizeof *d);
    d->began_at = now();
    d->line.fd = dial(host, port);
    struct linger at_once = {1, 0};  // no port is to wait for anything afterwards
    setsockopt(d->line.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    int n = tokens ? put_login(out, "device", token) : put_login(out, "provision", NULL);
    send_all(d->line.fd, out, n);
    watch(poll_fd, d->line.fd, d);
    d->number = begun++;
}

static void ask(device *d) {
    static char payload[1024];
    static unsigned char out[2048];
    int n;
    if (tokens)
        n = sprintf(payload,
                    "{\"tmpl\":\"%s\",\"ver\":\"1.0.0\",\"build\":\"Oct 1\",\"type\":\"%s\"}",
                    template, template);
    else
        n = sprintf(payload,
                    "{\"deviceName\":\"newborn-%ld\",\"provisionDeviceKey\":\"%s\","
                    "\"provisionDeviceSecret\":\"%s\"}",
                    d->number, key, secret);
    const char *topic = tokens ? "info/mcu" : "/provision/request";
    send_all(d->line.fd, out, put_publish(out, topic, 1, payload, n));
}

static int is_success(const unsigned char *body, int length) {
    static const char wanted[] = "\"status\":\"SUCCESS\"";
    return memmem(body, length, wanted, sizeof wanted - 1) != NULL;
}

static void finish(device *d, int is_good) {
    if (answered < MAX_SAMPLES)
        samples[answered] = now() - d->began_at;
    is_good ? answered++ : refused++;
    d->done = 1;
}

static void take(void *owner, int first, unsigned char *body, int length) {
    device *d = owner;
    if (first == CONNACK) {
        if (body[1])
            finish(d, 0);
        else
            ask(d);
    } else if (first == PUBACK && tokens) {
        finish(d, 1);
    } else if ((first & 0xf0) == PUBLISH) {
        finish(d, !tokens && is_success(body, length));  // for a claim it says what is wrong
    }
}

static void wait_events(int asking) {
    struct epoll_event events[256];
    int n = epoll_wait(poll_fd, events, 256, 50);
    for (int i = 0; i < n; i++) {
        device *d = events[i].data.ptr;
        receive(&d->line, d, take);
        if (!d->done)
            continue;
        close(d->line.fd);
        if (asking)
            begin(d);
    }
}

int main(int argc, char **argv) {
    int claims = argc == 6 && !strcmp(argv[1], "claim");
    char *path = getenv("TOKENS");
    template = getenv("TEMPLATE");
    key = getenv("PROVISION_KEY"), secret = getenv("PROVISION_SECRET");
    if (argc != 6 || (claims ? !path || !template : !key || !secret))
        fail("usage: [TOKENS=file TEMPLATE=..] newborn claim|birth HOST PORT AT_ONCE SECONDS");
    if (claims && !(tokens = fopen(path, "r")))
        fail("the file of tokens cannot be read");
    host = argv[2], port = atoi(argv[3]);
    int count = atoi(argv[4]);
    poll_fd = epoll_create1(0);
    device *devices = calloc(count, sizeof *devices);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    double began = now();
    for (int i = 0; i < count; i++)
        begin(&devices[i]);
    while (!exhausted && now() < began + atof(argv[5]))
        wait_events(1);
    double seconds = now() - began;
    long in_time = answered;
    for (double deadline = now() + PATIENCE_S; answered + refused < begun && now() < deadline;)
        wait_events(0);
    printf("at_once=%d ok=%ld rej=%ld lost=%ld rate=%.0f/s", count, answered, refused,
           begun - answered - refused, in_time / seconds);
    print_latencies(samples, answered < MAX_SAMPLES ? answered : MAX_SAMPLES);
    return 0;
}
