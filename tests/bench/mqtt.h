// The packets of MQTT 3.1.1 that the generators write and read.
#include "machine.h"

#define CONNACK 0x20
#define PUBLISH 0x30
#define PUBACK 0x40
#define SUBACK 0x90
#ifndef IN_BYTES
#define IN_BYTES 2048  // nothing longer is sent to most of these clients
#endif

typedef struct {
    int fd;
    int length;
    unsigned char bytes[IN_BYTES];
} line;

typedef void (*packet_taker)(void *owner, int first, unsigned char *body, int length);

static int put_text(unsigned char *out, const char *text) {
    int length = strlen(text);
    out[0] = length >> 8;
    out[1] = length;
    memcpy(out + 2, text, length);
    return length + 2;
}

static int put_packet(unsigned char *out, int first, const unsigned char *body, int length) {
    int n = 0, left = length;
    out[n++] = first;
    do {
        out[n++] = (left & 0x7f) | (left > 0x7f ? 0x80 : 0);
        left >>= 7;
    } while (left);
    memcpy(out + n, body, length);
    return n + length;
}

static int put_connect(unsigned char *out, const char *token) {
    unsigned char body[256];
    if (strlen(token) > 64)
        fail("a token is longer than expected");
    int n = put_text(body, "MQTT");
    body[n++] = 4;     // 3.1.1
    body[n++] = 0x82;  // user name, clean session
    body[n++] = 0x02;  // keep-alive: 600 s
    body[n++] = 0x58;
    n += put_text(body + n, "");
    n += put_text(body + n, token);
    return put_packet(out, 0x10, body, n);
}

static int put_subscribe(unsigned char *out, const char *filter) {
    unsigned char body[256] = {0, 1};
    int n = 2 + put_text(body + 2, filter);
    body[n++] = 1;
    return put_packet(out, 0x82, body, n);
}

static int put_publish(unsigned char *out, const char *topic, uint16_t id, const char *payload,
                       int length) {
    static unsigned char body[65536];
    int n = put_text(body, topic);
    body[n++] = id >> 8;
    body[n++] = id;
    memcpy(body + n, payload, length);
    return put_packet(out, PUBLISH | 2, body, n + length);
}

static void send_all(int fd, const unsigned char *bytes, int length) {
    for (int sent = 0; sent < length;) {
        int n = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += n;
        else if (errno == EAGAIN)
            usleep(100);
        else
            fail("a session was closed");
    }
}

static void acknowledge(line *l, const unsigned char *id) {
    unsigned char packet[4] = {PUBACK, 2, id[0], id[1]};
    send_all(l->fd, packet, sizeof packet);
}

// Where the packet id of a PUBLISH stands in its body; the payload follows it.
static int id_at(const unsigned char *body) { return 2 + (body[0] << 8 | body[1]); }

static int dial(const char *host, int port) {
    struct sockaddr_in address = server_address(host, port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&address, sizeof address))
        fail("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

// Hands over one packet at `at`; returns where the next begins, or `at` while it is not all there.
static int take_one(line *l, int at, void *owner, packet_taker take) {
    int length = 0, n = at + 1;
    for (int shift = 0;; shift += 7) {
        if (n >= l->length)
            return at;
        length |= (l->bytes[n] & 0x7f) << shift;
        if (!(l->bytes[n++] & 0x80))
            break;
    }
    if (n + length > l->length)
        return at;
    take(owner, l->bytes[at], l->bytes + n, length);
    return n + length;
}

static void receive(line *l, void *owner, packet_taker take) {
    for (;;) {
        int n = recv(l->fd, l->bytes + l->length, sizeof l->bytes - l->length, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            fail("a session was closed");
        l->length += n;
        int at = 0, next;
        while ((next = take_one(l, at, owner, take)) != at)
            at = next;
        if (!at && l->length == sizeof l->bytes)
            fail("a packet longer than any expected");
        memmove(l->bytes, l->bytes + at, l->length - at);
        l->length -= at;
    }
}
