// CoAP observers of shared attributes, each from a port of its own, which are told once and
// acknowledge it. Prints `all N ready` when every registration stands, and at the end when the
// first and the last acknowledgement left, in seconds of the monotonic clock. Notifications that
// come again (`again`) were acknowledged in vain before. Tokens are PREFIX0000, PREFIX0001, ...
// build: cc -O2 -o observers observers.c
// run:   ./observers 127.0.0.1 5683 PREFIX OBSERVERS PAYLOAD SECONDS
#include "coap.h"

#define AT_ONCE 200  // registrations on their way
#define LINGER_S 3.2  // a notification whose acknowledgement was lost comes again within 3 s

typedef struct {
    int fd, registered, times, length;
    double sent_at;
    unsigned char bytes[256];
} observer;

static long ready, told, again, wrong, repeated;
static const char *wanted;
static double first, last;

static void begin(observer *o, uint32_t number, const char *prefix) {
    char token[65];
    int option = 0;
    snprintf(token, sizeof token, "%s%04u", prefix, number);
    o->length = put_head(o->bytes, GET, number, number, ~number);
    o->length += put_option(o->bytes + o->length, &option, OBSERVE, "", 0);
    o->length += put_path(o->bytes + o->length, &option, token, "attributes");
    o->sent_at = now();
    send(o->fd, o->bytes, o->length, 0);
}

static int ends_with(const unsigned char *message, int length, const char *text) {
    int size = strlen(text);
    return length > size && message[length - size - 1] == 0xff &&
           !memcmp(message + length - size, text, size);
}

static void take(observer *o, const unsigned char *message, int length) {
    if (message[1] != 0x45)  // 2.05
        fail("a registration was refused, or ended");
    if (!o->registered) {
        if (length < 4 + TOKEN_BYTES + 1 || message[4 + TOKEN_BYTES] >> 4 != OBSERVE)
            fail("an answer came without an observation");
        o->registered = 1;
        ready++;
        return;
    }
    last = now();
    if (!told)
        first = last;
    wrong += !ends_with(message, length, wanted);
    o->times++ ? again++ : told++;
}

static void wait_events(int poll) {
    struct epoll_event events[512];
    unsigned char message[2048];
    int n = epoll_wait(poll, events, 512, 20), length;
    for (int i = 0; i < n; i++) {
        observer *o = events[i].data.ptr;
        while ((length = recv(o->fd, message, sizeof message, 0)) >= 4) {
            if (kind_of(message) == CON)
                acknowledge(o->fd, message);
            if (is_answer(message, length))
                take(o, message, length);
        }
    }
}

static void repeat(observer *observers, int opened) {
    static double looked;
    if (now() - looked < 0.2)
        return;
    looked = now();
    for (int i = 0; i < opened; i++) {
        observer *o = &observers[i];
        if (!o->registered && looked - o->sent_at > ANSWER_AFTER_S) {
            o->sent_at = looked;
            repeated++;
            send(o->fd, o->bytes, o->length, 0);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 7)
        fail("usage: observers HOST PORT PREFIX OBSERVERS PAYLOAD SECONDS");
    struct sockaddr_in address = server_address(argv[1], atoi(argv[2]));
    int count = atoi(argv[4]), poll = epoll_create1(0);
    observer *observers = calloc(count, sizeof *observers);
    double patience = atof(argv[6]), deadline = now() + patience;
    wanted = argv[5];
    for (int opened = 0; ready < count;) {
        for (; opened < count && opened - ready < AT_ONCE; opened++) {
            observers[opened].fd = udp_to(&address);
            watch(poll, observers[opened].fd, &observers[opened]);
            begin(&observers[opened], opened, argv[3]);
        }
        if (now() > deadline)
            fail("not every registration was answered in time");
        wait_events(poll);
        repeat(observers, opened);
    }
    printf("all %d ready\n", count);
    fflush(stdout);
    for (deadline = now() + patience; told < count && now() < deadline;)
        wait_events(poll);
    for (deadline = now() + LINGER_S; now() < deadline;)
        wait_events(poll);
    printf("told=%ld lost=%ld again=%ld wrong=%ld retr=%ld first=%.6f last=%.6f\n", told,
           count - told, again, wrong, repeated, first, last);
    return 0;
}
