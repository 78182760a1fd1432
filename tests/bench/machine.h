// What every generator here needs of the machine: its clock, its sockets, and a way to give up.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HOUR_MS 3600000LL

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

// Where the times of readings begin. They count up by one for each reading of a device, so that no
// two are the same; an hour ago, they stay behind the clock.
static long long first_ts(void) { return seconds_of(CLOCK_REALTIME) * 1000 - HOUR_MS; }

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static struct sockaddr_in server_address(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        fail("the host must be an IPv4 address");
    return address;
}

static void watch(int poll, int fd, void *owner) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The end of the line every load prints; `samples` are latencies in seconds.
static void print_latencies(double *samples, long count) {
    qsort(samples, count, sizeof *samples, ascending);
    printf(" p50=%.2fms p99=%.2fms\n", count ? samples[count / 2] * 1e3 : 0,
           count ? samples[(long)(count * .99)] * 1e3 : 0);
}
