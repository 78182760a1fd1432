// DTLS 1.2 handshakes: so many at once, each from a port of its own, for so many seconds; each that
// is done makes room for the next, and takes leave of nobody. With KEEP=N it makes N and keeps their
// ports, silent: it says `all N ready` and waits to be ended (SIGTERM), so that the server's memory
// can be read. With DEVICES the identities are identity0000, identity0001, ..., all with one key.
// build: cc -O2 -o dtls_handshakes dtls_handshakes.c -lssl -lcrypto
// run:   [CERTS=file | PSK=identity:hex [DEVICES=N]] [CIPHERS=list] [KEEP=N]
//        ./dtls_handshakes 127.0.0.1 5684 AT_ONCE SECONDS
#include "machine.h"

#include "identities.h"

#define MAX_SAMPLES 5000000
#define GIVE_UP_AFTER_S 15.0

typedef struct {
    int fd;
    SSL *ssl;
    long number;
    double began;
} attempt;

static SSL_CTX *context;
static struct sockaddr_in address;
static double *samples;
static long begun, done, failed, repeated, devices;
static int poll_fd;
static const char *psk_name;
static unsigned char psk_key[64];
static long psk_length;

static unsigned int give_key(SSL *ssl, const char *hint, char *name, unsigned int name_room,
                             unsigned char *key, unsigned int key_room) {
    (void)hint;
    attempt *a = SSL_get_app_data(ssl);
    int length = snprintf(name, name_room, devices ? "%s%04ld" : "%s", psk_name,
                          devices ? a->number % devices : 0);
    if (length >= (int)name_room || psk_length > key_room)
        return 0;
    memcpy(key, psk_key, psk_length);
    return psk_length;
}

static void use_psk(char *text) {
    char *hex = strchr(text, ':');
    if (!hex)
        fail("PSK is identity:hex");
    *hex++ = 0;
    psk_name = text;
    for (; hex[0] && hex[1] && psk_length < (long)sizeof psk_key; hex += 2)
        sscanf(hex, "%2hhx", &psk_key[psk_length++]);
    SSL_CTX_set_psk_client_callback(context, give_key);
    SSL_CTX_set_cipher_list(context, "PSK-AES128-CCM8:@SECLEVEL=0");
}

static void make_context(void) {
    char *psk = getenv("PSK");
    context = SSL_CTX_new(DTLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_options(context, SSL_OP_NO_QUERY_MTU);
    if (psk)
        use_psk(strdup(psk));
    if (getenv("CIPHERS") && !SSL_CTX_set_cipher_list(context, getenv("CIPHERS")))
        fail("no such cipher");
    if (getenv("CERTS"))
        read_identities(getenv("CERTS"));
}

static void begin(attempt *a) {
    a->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (a->fd < 0 || connect(a->fd, (void *)&address, sizeof address))
        fail("cannot open a UDP port");
    watch(poll_fd, a->fd, a);
    BIO *bio = BIO_new_dgram(a->fd, BIO_NOCLOSE);
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &address);
    a->number = begun++;
    a->ssl = SSL_new(context);
    SSL_set_app_data(a->ssl, a);
    use_identity(a->ssl, a->number);
    SSL_set_bio(a->ssl, bio, bio);
    SSL_set_mtu(a->ssl, 1400);
    SSL_set_connect_state(a->ssl);
    a->began = now();
    SSL_do_handshake(a->ssl);
}

static void end(attempt *a, int keep) {
    SSL_free(a->ssl);
    a->ssl = NULL;
    if (keep)
        epoll_ctl(poll_fd, EPOLL_CTL_DEL, a->fd, NULL);  // the port stays its own
    else
        close(a->fd);
}

// Goes on with a handshake; whether it is over, one way or the other.
static int step(attempt *a, int keep) {
    int result = SSL_do_handshake(a->ssl);
    if (result != 1 && SSL_get_error(a->ssl, result) == SSL_ERROR_WANT_READ)
        return 0;
    if (result == 1) {
        if (done < MAX_SAMPLES)
            samples[done] = now() - a->began;
        done++;
    } else if (!failed++)
        ERR_print_errors_fp(stderr);
    ERR_clear_error();
    end(a, keep && result == 1);
    return 1;
}

static void look_after(attempt *attempts, int count) {
    for (int i = 0; i < count; i++) {
        attempt *a = &attempts[i];
        if (!a->ssl)
            continue;
        if (DTLSv1_handle_timeout(a->ssl) > 0)
            repeated++;
        if (now() - a->began > GIVE_UP_AFTER_S) {
            failed++;
            end(a, 0);
            begin(a);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 5)
        fail("usage: dtls_handshakes HOST PORT AT_ONCE SECONDS");
    address = server_address(argv[1], atoi(argv[2]));
    int at_once = atoi(argv[3]), keep = getenv("KEEP") ? atoi(getenv("KEEP")) : 0;
    devices = getenv("DEVICES") ? atol(getenv("DEVICES")) : 0;
    attempt *attempts = calloc(at_once, sizeof *attempts);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    make_context();
    poll_fd = epoll_create1(0);
    double began = now(), looked = began, until = began + atof(argv[4]);
    for (int i = 0; i < at_once; i++)
        begin(&attempts[i]);
    while (now() < until && (!keep || done < keep)) {
        struct epoll_event events[256];
        int n = epoll_wait(poll_fd, events, 256, 20);
        for (int i = 0; i < n; i++) {
            attempt *a = events[i].data.ptr;
            if (a->ssl && step(a, keep) && (!keep || begun - failed < keep))
                begin(a);
        }
        if (now() - looked > 0.2) {
            looked = now();
            look_after(attempts, at_once);
        }
    }
    double took = now() - began;
    if (keep && done == keep)
        printf("all %d ready ", keep);
    printf("ok=%ld lost=%ld retr=%ld rate=%.0f/s", done, failed, repeated, done / took);
    print_latencies(samples, done < MAX_SAMPLES ? done : MAX_SAMPLES);
    fflush(stdout);
    if (keep)
        pause();
    return 0;
}
