// A device that answers every call at once: one MQTT session, until it is terminated.
// build: cc -O2 -o answering answering.c
// run:   ./answering 127.0.0.1 1883 TOKEN
#include "mqtt.h"

static const char REQUEST[] = "v1/devices/me/rpc/request/";
static const char RESPONSE[] = "v1/devices/me/rpc/response/";

static void answer(line *l, unsigned char *body) {
    static uint16_t id;
    unsigned char out[256];
    char topic[128];
    int end = id_at(body), skip = 2 + sizeof REQUEST - 1;
    if (end <= skip || end - skip > 20 || memcmp(body + 2, REQUEST, sizeof REQUEST - 1))
        fail("something else than a call arrived");
    sprintf(topic, "%s%.*s", RESPONSE, end - skip, body + skip);
    id = id % 65535 + 1;
    int length = put_publish(out, topic, id, "{\"done\":true}", 13);
    send_all(l->fd, out, length);
    acknowledge(l, body + end);
}

static void take(void *owner, int kind, unsigned char *body, int length) {
    line *l = owner;
    unsigned char out[256];
    if (kind == CONNACK) {
        if (body[1])
            fail("the login was refused");
        send_all(l->fd, out, put_subscribe(out, "v1/devices/me/rpc/request/+"));
    } else if (kind == SUBACK) {
        printf("all 1 ready\n");
        fflush(stdout);
    } else if ((kind & 0xf0) == PUBLISH) {
        answer(l, body);
    }
}

int main(int argc, char **argv) {
    if (argc != 4)
        fail("usage: answering HOST PORT TOKEN");
    static line l;
    unsigned char out[256];
    int poll = epoll_create1(0);
    l.fd = dial(argv[1], atoi(argv[2]));
    send_all(l.fd, out, put_connect(out, argv[3]));
    watch(poll, l.fd, &l);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(poll, &event, 1, -1) > 0)
            receive(&l, &l, take);
    }
}
