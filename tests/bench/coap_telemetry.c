// CoAP telemetry load: confirmable posts of readings. At the end exactly `ok` readings must be in the
// store.
// build: cc -O2 -o coap_telemetry coap_telemetry.c
// run:   TOKENS=token1,token2,... ./coap_telemetry 127.0.0.1 5683 IN_FLIGHT SOURCE_PORTS SECONDS
#include "coap_posts.h"

#define MAX_DEVICES 1024

static struct { char *token; long long sent; } devices[MAX_DEVICES];
static int device_count;
static long long base;

static int put_post(unsigned char *out) {
    int device = sent % device_count, last = 0, id = 50;
    int n = put_path(out, &last, devices[device].token, "telemetry");
    n += put_option(out + n, &last, CONTENT_FORMAT, (char *)&id, 1);
    out[n++] = 0xff;
    long long count = devices[device].sent++;
    return n + sprintf((char *)out + n, "{\"ts\":%lld,\"values\":{\"level\":%lld}}", base + count,
                       count);
}

static int is_good(const unsigned char *message, int length) {
    return message[1] == 0x41;  // 2.01
}

int main(int argc, char **argv) {
    char *tokens = getenv("TOKENS");
    if (argc != 6 || !tokens)
        fail("usage: TOKENS=token,... coap_telemetry HOST PORT IN_FLIGHT SOURCE_PORTS SECONDS");
    at_once = atoi(argv[3]);
    port_count = atoi(argv[4]);
    base = first_ts();
    tokens = strdup(tokens);
    for (char *token = strtok(tokens, ","); token && device_count < MAX_DEVICES;
         token = strtok(NULL, ","))
        devices[device_count++].token = token;
    post_all(argv[1], atoi(argv[2]), atof(argv[5]));
    return 0;
}
