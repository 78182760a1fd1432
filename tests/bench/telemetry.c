// MQTT telemetry load: one session per device, readings at QoS 1 with a window of unacknowledged
// publishes kept full. The rate counts PUBACKs; a latency is from PUBLISH to its PUBACK.
// build: cc -O2 -o telemetry telemetry.c
// run:   TOKENS=token1,token2,... ./telemetry 127.0.0.1 1883 WINDOW SECONDS
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SESSIONS 1024
#define MAX_WINDOW 100  // a gateway announces how many it takes; 100 is its default
#define MAX_SAMPLES 20000000

typedef struct {
    int fd;
    int ready;     // CONNACK 0 has arrived
    int in_flight;
    uint16_t next_id;
    double sent_at[65536];
    unsigned char in[4096];
    int in_len;
} session;

static const char TOPIC[] = "v1/devices/me/telemetry";
static session *sessions[MAX_SESSIONS];
static int count, ready, window;
static long acked;
static double *samples;
static long sample_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "telemetry: %s\n", what);
    exit(1);
}

static int put_text(unsigned char *out, const char *text) {
    int length = strlen(text);
    out[0] = length >> 8;
    out[1] = length;
    memcpy(out + 2, text, length);
    return length + 2;
}

// Every packet made here is shorter than 128 bytes: one byte of remaining length.
static int put_connect(unsigned char *out, const char *token) {
    int n = 2;
    n += put_text(out + n, "MQTT");
    out[n++] = 4;           // 3.1.1
    out[n++] = 0x82;        // user name, clean session
    out[n++] = 0;
    out[n++] = 60;          // keep-alive, seconds
    n += put_text(out + n, "");
    n += put_text(out + n, token);
    out[0] = 0x10;
    out[1] = n - 2;
    return n;
}

static int put_publish(unsigned char *out, uint16_t id, long number) {
    int n = 2;
    n += put_text(out + n, TOPIC);
    out[n++] = id >> 8;
    out[n++] = id;
    n += sprintf((char *)out + n, "{\"temperature\":%.2f,\"humidity\":%ld}",
                 20 + (number % 500) / 100.0, 40 + number % 10);
    out[0] = 0x32;
    out[1] = n - 2;
    return n;
}

static void send_all(session *s, const unsigned char *bytes, int length) {
    for (int sent = 0; sent < length;) {
        int n = send(s->fd, bytes + sent, length - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += n;
        else if (errno == EAGAIN)
            usleep(100);
        else
            fail("a session was closed");
    }
}

static void fill_window(session *s) {
    static unsigned char out[MAX_WINDOW * 128];
    static long number;
    int length = 0;
    double t = now();
    for (; s->in_flight < window; s->in_flight++) {
        s->next_id = s->next_id % 65535 + 1;
        s->sent_at[s->next_id] = t;
        length += put_publish(out + length, s->next_id, number++);
    }
    if (length)
        send_all(s, out, length);
}

static void take_packet(session *s, const unsigned char *packet) {
    if (packet[0] == 0x20) {
        if (packet[3])
            fail("a login was refused");
        s->ready = 1;
        ready++;
    } else if (packet[0] == 0x40) {
        uint16_t id = packet[2] << 8 | packet[3];
        s->in_flight--;
        acked++;
        if (sample_count < MAX_SAMPLES)
            samples[sample_count++] = now() - s->sent_at[id];
    }
}

static void receive(session *s) {
    for (;;) {
        int n = recv(s->fd, s->in + s->in_len, sizeof s->in - s->in_len, 0);
        if (n == 0)
            fail("a session was closed");
        if (n < 0) {
            if (errno != EAGAIN)
                fail("a session was closed");
            return;
        }
        s->in_len += n;
        int at = 0;
        while (s->in_len - at >= 2 && s->in_len - at >= 2 + s->in[at + 1]) {
            if (s->in[at + 1] & 0x80)
                fail("a packet longer than any expected");
            take_packet(s, s->in + at);
            at += 2 + s->in[at + 1];
        }
        memmove(s->in, s->in + at, s->in_len - at);
        s->in_len -= at;
    }
}

static void open_session(const char *host, int port, const char *token, int poll) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    session *s = calloc(1, sizeof *s);
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->fd < 0 || connect(s->fd, (void *)&address, sizeof address))
        fail("cannot connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    unsigned char out[128];
    if (strlen(token) > 64)
        fail("a token is longer than expected");
    send_all(s, out, put_connect(out, token));
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(poll, EPOLL_CTL_ADD, s->fd, &event);
    sessions[count++] = s;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void wait_events(int poll) {
    struct epoll_event events[256];
    int n = epoll_wait(poll, events, 256, 50);
    for (int i = 0; i < n; i++) {
        session *s = events[i].data.ptr;
        receive(s);
        if (ready == count)
            fill_window(s);
    }
}

int main(int argc, char **argv) {
    char *tokens = getenv("TOKENS");
    if (argc != 5 || !tokens)
        fail("usage: TOKENS=token,token,... telemetry HOST PORT WINDOW SECONDS");
    window = atoi(argv[3]);
    if (window < 1 || window > MAX_WINDOW)
        fail("the window must be 1 to 100");
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    int poll = epoll_create1(0);
    tokens = strdup(tokens);
    for (char *token = strtok(tokens, ","); token && count < MAX_SESSIONS; token = strtok(NULL, ","))
        open_session(argv[1], atoi(argv[2]), token, poll);
    double deadline = now() + 10;
    while (ready < count) {
        if (now() > deadline)
            fail("not every session was accepted within 10 s");
        wait_events(poll);
    }
    for (int i = 0; i < count; i++)
        fill_window(sessions[i]);
    double began = now();
    acked = sample_count = 0;
    while (now() < began + atof(argv[4]))
        wait_events(poll);
    double seconds = now() - began;
    qsort(samples, sample_count, sizeof *samples, ascending);
    printf("sessions=%d window=%d acked=%ld rate=%.0f/s p50=%.2fms p99=%.2fms\n", count, window,
           acked, acked / seconds, sample_count ? samples[sample_count / 2] * 1e3 : 0,
           sample_count ? samples[(long)(sample_count * .99)] * 1e3 : 0);
    return 0;
}
