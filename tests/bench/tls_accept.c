// TLS accepts: so many connections at once, each a full handshake, an MQTT CONNECT and its CONNACK,
// and gone; then the next takes its place. A latency is from the TCP connect to the CONNACK. With
// HOLD none is closed, so that the server's memory for each can be read: it says `all N ready` once
// they stand, and waits to be ended (SIGTERM). With DEVICES the tokens are TOKEN0000, TOKEN0001, ...
// Without TOKEN no CONNECT is sent: the handshake is all, and in TLS 1.3 the server may still be
// working on its end of it. With CERTS the token may be empty: the certificate is the login.
// build: cc -O2 -o tls_accept tls_accept.c -lssl -lcrypto
// run:   [TOKEN=token [DEVICES=N]] [CERTS=file] [TLS=1.2] [HOLD=1]
//        ./tls_accept 127.0.0.1 8883 AT_ONCE SECONDS   (with HOLD: AT_ONCE is how many to hold)
#include "mqtt.h"

#include "identities.h"
#include <signal.h>

#define MAX_AT_ONCE 60000
#define MAX_DIALLING 200  // of those held: the rest wait, as the server's backlog is not endless
#define MAX_SAMPLES 10000000

typedef struct {
    int fd, shaken, done;
    SSL *ssl;
    long number;
    double began_at;
} client;

static SSL_CTX *context;
static const char *token;
static long begun, devices;
static struct sockaddr_in address;
static int poller, holding;
static long accepted, refused, lost, held, dialling;
static double *samples;

static void set_interest(client *c, int operation, int events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poller, operation, c->fd, &event);
}

static void begin(client *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("no more sockets; raise `ulimit -n`");
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct linger none = {.l_onoff = 1, .l_linger = 0};  // else the ports run out in a minute
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    c->began_at = now();
    c->shaken = c->done = 0;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("cannot connect");
    c->number = begun++;
    c->ssl = SSL_new(context);
    use_identity(c->ssl, c->number);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    dialling++;
    set_interest(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void end(client *c) {
    SSL_set_quiet_shutdown(c->ssl, 1);
    SSL_free(c->ssl);
    close(c->fd);
}

static void finish(client *c) {
    c->done = 1;
    dialling--;
    if (accepted < MAX_SAMPLES)
        samples[accepted] = now() - c->began_at;
    accepted++;
    if (holding) {
        held++;
        return;
    }
    end(c);
    begin(c);
}

static void give_up(client *c) {
    if (c->done)
        held--;
    else
        dialling--;
    lost++;
    end(c);
    begin(c);
}

// What OpenSSL waits for after `result`; 0 when the connection is over.
static int wants(client *c, int result) {
    int error = SSL_get_error(c->ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ ? EPOLLIN : error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : 0;
}

static int shake(client *c) {
    unsigned char out[256];
    char name[80];
    int result = SSL_do_handshake(c->ssl);
    if (result != 1)
        return wants(c, result);
    c->shaken = 1;
    if (!token)
        return EPOLLIN;
    snprintf(name, sizeof name, devices ? "%.64s%04ld" : "%.64s", token,
             devices ? c->number % devices : 0);
    int length = put_connect(out, name);
    return SSL_write(c->ssl, out, length) == length ? EPOLLIN : 0;
}

static void advance(client *c) {
    unsigned char in[256];
    if (!c->shaken) {
        int events = shake(c);
        if (!events) {
            give_up(c);
            return;
        }
        set_interest(c, EPOLL_CTL_MOD, events);
        if (c->shaken && !token)
            finish(c);
        if (!c->shaken || !token)
            return;
    }
    int n = SSL_read(c->ssl, in, sizeof in);
    if (n <= 0) {
        if (!wants(c, n))
            give_up(c);
    } else if (!c->done && in[0] == CONNACK) {
        refused += in[3] != 0;
        finish(c);
    }
}

static void make_context(void) {
    const char *identities = getenv("CERTS"), *version = getenv("TLS");
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (version && !strcmp(version, "1.2"))
        SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    else
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    if (identities)
        read_identities(identities);
}

int main(int argc, char **argv) {
    if (argc < 5)
        fail("usage: [TOKEN=t [DEVICES=n]] [CERTS=file] [TLS=1.2] [HOLD=1] tls_accept HOST PORT AT_ONCE SECONDS");
    address = server_address(argv[1], atoi(argv[2]));
    int at_once = atoi(argv[3]);
    if (at_once < 1 || at_once > MAX_AT_ONCE)
        fail("AT_ONCE is 1 to 60000");
    token = getenv("TOKEN");
    devices = getenv("DEVICES") ? atol(getenv("DEVICES")) : 0;
    holding = getenv("HOLD") != NULL;
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    client *clients = calloc(at_once, sizeof *clients);
    signal(SIGPIPE, SIG_IGN);
    make_context();
    poller = epoll_create1(0);
    int used = 0;
    double start = now(), until = start + atof(argv[4]), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    while (now() < until && held < at_once) {
        while (used < at_once && (!holding || dialling < MAX_DIALLING))
            begin(&clients[used++]);
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 50);
        for (int i = 0; i < n; i++)
            advance(events[i].data.ptr);
    }
    double elapsed = now() - start;
    if (holding && held == at_once)
        printf("all %d ready ", at_once);
    printf("ok=%ld rej=%ld lost=%ld seconds=%.2f rate=%.0f/s cpu=%.0f%%", accepted - refused,
           refused, lost, elapsed, accepted / elapsed,
           100 * (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) / elapsed);
    print_latencies(samples, accepted < MAX_SAMPLES ? accepted : MAX_SAMPLES);
    if (holding) {
        fflush(stdout);
        pause();
    }
    return 0;
}
