// How long a loop keeps others waiting: GET /healthz at a fixed pace, over as many open connections
// in turn, so that a request is sent when it is due whether or not those before it were answered. A
// latency is from when it was due. It asks the system to run before all others: what else is on its
// processor is not to be measured.
// build: cc -O2 -o probe probe.c
// run:   ./probe 127.0.0.1 8080 EVERY_MS SECONDS
#include "machine.h"

#include <poll.h>
#include <sched.h>

#define CONNECTIONS 64
#define MAX_SAMPLES 1000000
#define REQUEST "GET /healthz HTTP/1.1\r\nHost: probe\r\n\r\n"

static struct pollfd lines[CONNECTIONS];
static double due_at[CONNECTIONS];  // of the request that was not answered yet; 0: none
static double *samples, worst;
static long count, late;

static int dial(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (void *)address, sizeof *address))
        fail("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void ask(int line, double due) {
    if (send(lines[line].fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) < 0)
        fail("a connection was closed");
    due_at[line] = due;
}

static void take(int line) {
    char in[4096];
    int n = recv(lines[line].fd, in, sizeof in, 0);
    if (n < 12 || memcmp(in + 9, "200", 3))
        fail("no good answer");
    double took = now() - due_at[line];
    due_at[line] = 0;
    if (took > worst)
        worst = took;
    if (count < MAX_SAMPLES)
        samples[count++] = took;
}

static void wait_answers(double until) {
    double left = until - now();
    long ns = left > 0 ? left * 1e9 : 0;
    struct timespec patience = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    if (ppoll(lines, CONNECTIONS, &patience, NULL) <= 0)
        return;
    for (int i = 0; i < CONNECTIONS; i++)
        if (lines[i].revents)
            take(i);
}

int main(int argc, char **argv) {
    if (argc != 5)
        fail("usage: probe HOST PORT EVERY_MS SECONDS");
    struct sched_param first = {.sched_priority = 10};
    sched_setscheduler(0, SCHED_FIFO, &first);  // where it may not, others may be before it
    struct sockaddr_in address = server_address(argv[1], atoi(argv[2]));
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    for (int i = 0; i < CONNECTIONS; i++)
        lines[i] = (struct pollfd){.fd = dial(&address), .events = POLLIN};
    double pace = atof(argv[3]) / 1e3, due = now(), until = due + atof(argv[4]);
    for (long number = 0; due < until; number++, due += pace) {
        int line = number % CONNECTIONS;
        late += due_at[line] != 0;
        while (due_at[line] || now() < due)
            wait_answers(due_at[line] ? now() + 0.01 : due);
        ask(line, due);
    }
    for (int i = 0; i < CONNECTIONS; i++)
        while (due_at[i])
            wait_answers(now() + 0.01);
    printf("ok=%ld late=%ld max=%.2fms", count, late, worst * 1e3);
    print_latencies(samples, count);
    return 0;
}
