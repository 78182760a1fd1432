// The messages of CoAP (RFC 7252) that the generators write and read.
#include "machine.h"

#define CON 0
#define ACK 2
#define GET 1
#define POST 2
#define OBSERVE 6
#define URI_PATH 11
#define CONTENT_FORMAT 12
#define TOKEN_BYTES 8
#define ANSWER_AFTER_S 2.0   // ACK_TIMEOUT
#define GIVE_UP_AFTER_S 15.0

// The head of a request with a token of eight bytes: `a` and `b`.
static int put_head(unsigned char *out, int code, uint16_t id, uint32_t a, uint32_t b) {
    out[0] = 0x40 | CON << 4 | TOKEN_BYTES;
    out[1] = code;
    out[2] = id >> 8;
    out[3] = id;
    memcpy(out + 4, &a, 4);
    memcpy(out + 8, &b, 4);
    return 4 + TOKEN_BYTES;
}

// An option after one of number `*last`; numbers are less than 13 apart, values under 269 bytes.
static int put_option(unsigned char *out, int *last, int number, const char *value, int length) {
    int n = 0;
    out[n++] = (number - *last) << 4 | (length < 13 ? length : 13);
    if (length >= 13)
        out[n++] = length - 13;
    memcpy(out + n, value, length);
    *last = number;
    return n + length;
}

static int put_path(unsigned char *out, int *last, const char *token, const char *feature) {
    int n = put_option(out, last, URI_PATH, "api", 3);
    n += put_option(out + n, last, URI_PATH, "v1", 2);
    n += put_option(out + n, last, URI_PATH, token, strlen(token));
    return n + put_option(out + n, last, URI_PATH, feature, strlen(feature));
}

static int kind_of(const unsigned char *message) { return message[0] >> 4 & 3; }

// Whether it is an answer with a token of ours.
static int is_answer(const unsigned char *message, int length) {
    return length >= 4 + TOKEN_BYTES && message[1] && (message[0] & 15) == TOKEN_BYTES;
}

static void acknowledge(int fd, const unsigned char *message) {
    unsigned char ack[4] = {0x40 | ACK << 4, 0, message[2], message[3]};
    send(fd, ack, sizeof ack, 0);
}

static int udp_to(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (void *)address, sizeof *address))
        fail("cannot open a UDP port");
    return fd;
}
