// MQTT sessions that wait for one shared attribute. Each logs in, subscribes, and is told once.
// Prints `all N ready` when every subscription stands, and at the end when the first and the last
// were told, in seconds of the monotonic clock. Tokens are PREFIX0000, PREFIX0001, ...
// build: cc -O2 -o audience audience.c
// run:   ./audience 127.0.0.1 1883 PREFIX SESSIONS PAYLOAD SECONDS
#include "mqtt.h"

#define AT_ONCE 200  // sessions on their way in
#define LINGER_S 0.3  // a message too many would come right after the others

typedef struct {
    line line;
    int times;
} session;

static long ready, told, again, wrong;
static const char *wanted;
static double first, last;

static void take(void *owner, int kind, unsigned char *body, int length) {
    session *s = owner;
    unsigned char out[256];
    if (kind == CONNACK) {
        if (body[1])
            fail("a login was refused");
        send_all(s->line.fd, out, put_subscribe(out, "v1/devices/me/attributes"));
    } else if (kind == SUBACK) {
        if (body[2] & 0x80)
            fail("a subscription was refused");
        ready++;
    } else if ((kind & 0xf0) == PUBLISH) {
        int at = id_at(body), id = kind & 6 ? 2 : 0;
        last = now();
        if (!told)
            first = last;
        if (id)
            acknowledge(&s->line, body + at);
        at += id;
        wrong += length - at != strlen(wanted) || memcmp(body + at, wanted, length - at);
        s->times++ ? again++ : told++;
    }
}

static void wait_events(int poll) {
    struct epoll_event events[512];
    int n = epoll_wait(poll, events, 512, 20);
    for (int i = 0; i < n; i++) {
        session *s = events[i].data.ptr;
        receive(&s->line, s, take);
    }
}

int main(int argc, char **argv) {
    if (argc != 7)
        fail("usage: audience HOST PORT PREFIX SESSIONS PAYLOAD SECONDS");
    int count = atoi(argv[4]), poll = epoll_create1(0);
    session *sessions = calloc(count, sizeof *sessions);
    double patience = atof(argv[6]), deadline = now() + patience;
    wanted = argv[5];
    for (int opened = 0; ready < count;) {
        for (; opened < count && opened - ready < AT_ONCE; opened++) {
            unsigned char out[256];
            char token[65];
            snprintf(token, sizeof token, "%s%04d", argv[3], opened);
            sessions[opened].line.fd = dial(argv[1], atoi(argv[2]));
            send_all(sessions[opened].line.fd, out, put_connect(out, token));
            watch(poll, sessions[opened].line.fd, &sessions[opened]);
        }
        if (now() > deadline)
            fail("not every session was opened in time");
        wait_events(poll);
    }
    printf("all %d ready\n", count);
    fflush(stdout);
    for (deadline = now() + patience; told < count && now() < deadline;)
        wait_events(poll);
    for (deadline = now() + LINGER_S; now() < deadline;)
        wait_events(poll);
    printf("told=%ld lost=%ld again=%ld wrong=%ld first=%.6f last=%.6f\n", told, count - told, again,
           wrong, first, last);
    return 0;
}
