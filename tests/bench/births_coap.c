// Provisioning over CoAP: confirmable posts. BODIES is a file of requests, a line each. At the end as
// many devices as `ok` less `err` says must be in the store.
// build: cc -O2 -o births_coap births_coap.c
// run:   BODIES=file ./births_coap 127.0.0.1 5683 IN_FLIGHT SOURCE_PORTS SECONDS
#define POST_BYTES 1024
#include "coap_posts.h"

static FILE *bodies;

static int put_post(unsigned char *out) {
    static char body[POST_BYTES - 64];
    if (!fgets(body, sizeof body, bodies))
        return 0;
    int last = 0, id = 50, length = strcspn(body, "\n");
    int n = put_option(out, &last, URI_PATH, "api", 3);
    n += put_option(out + n, &last, URI_PATH, "v1", 2);
    n += put_option(out + n, &last, URI_PATH, "provision", 9);
    n += put_option(out + n, &last, CONTENT_FORMAT, (char *)&id, 1);
    out[n++] = 0xff;
    memcpy(out + n, body, length);
    return n + length;
}

static int is_good(const unsigned char *message, int length) {
    static const char wanted[] = "\"status\":\"SUCCESS\"";
    return memmem(message, length, wanted, sizeof wanted - 1) != NULL;
}

int main(int argc, char **argv) {
    char *path = getenv("BODIES");
    if (argc != 6 || !path || !(bodies = fopen(path, "r")))
        fail("usage: BODIES=file births_coap HOST PORT IN_FLIGHT SOURCE_PORTS SECONDS");
    at_once = atoi(argv[3]);
    port_count = atoi(argv[4]);
    post_all(argv[1], atoi(argv[2]), atof(argv[5]));
    return 0;
}
