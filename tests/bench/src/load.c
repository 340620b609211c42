/* A client that streams: N connections, each asks, reads the answer to its end and asks again. One thread, one epoll.
 *
 *   load --address 127.0.0.1:8000 --connections 50 --chunks 100 --gap-us 10000 --stream --seconds 3 ...
 *
 * Writes "begin" when the measured window opens and "end" when it closes, so that the caller can take the proxy's
 * CPU time at both, then one line of JSON. The added latency of a chunk is its arrival minus the stamp in it.
 * Counts are of the window only; every error counts, whenever it happens.
 */
#include "response.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)

struct samples {
    uint64_t *values;
    size_t count, capacity;
};

struct connection {
    int fd;
    bool connected;
    struct response response;
    size_t request_sent;
    uint64_t asked_at, last_stamp, stamp;
    int chunks, marks, digits; /* chunks seen; how much of a stamp's mark and digits has been read */
};

static struct options {
    struct sockaddr_in address;
    const char *path, *key, *model;
    int connections, chunks, gap_us, size, align, stream, usage;
    double seconds, warm_up, ramp;
} options = {.path = "/v1/chat/completions", .key = "", .model = "bench", .connections = 1, .chunks = 16,
             .size = 250, .seconds = 3, .warm_up = 1};

static struct connection *connections;
static char request[4096];
static size_t request_length;
static int epoll_fd;
static uint64_t window_start, window_end;
static struct samples chunk_latencies, first_latencies;
static unsigned long answers, errors, incomplete, disordered;
static char first_error[256];

/* -- what is counted ---------------------------------------------------------------------------------------------- */

static bool in_window(uint64_t at)
{
    return at >= window_start && at < window_end;
}

static void add_sample(struct samples *s, uint64_t value)
{
    s->values = grow(s->values, &s->capacity, s->count + 1, sizeof *s->values);
    s->values[s->count++] = value;
}

static void note_error(const char *text, size_t length)
{
    if (!first_error[0])
        snprintf(first_error, sizeof first_error, "%.*s", (int)length, text);
}

static void take_stamp(struct connection *c, uint64_t now)
{
    c->chunks++;
    if (c->stamp < c->last_stamp)
        disordered++;
    c->last_stamp = c->stamp;
    if (!in_window(now))
        return;
    if (c->chunks == 1)
        add_sample(&first_latencies, now - c->asked_at);
    add_sample(&chunk_latencies, now > c->stamp ? now - c->stamp : 0);
}

/* Finds stamps in the body, wherever the network has cut it. */
static void read_body(void *owner, const char *bytes, size_t length)
{
    struct connection *c = owner;
    uint64_t now = now_ns();
    const char *end = bytes + length;
    if (c->response.status != 200) {
        note_error(bytes, length);
        return;
    }
    while (bytes < end) {
        if (c->marks == 0) {
            bytes = memchr(bytes, STAMP_MARK[0], (size_t)(end - bytes));
            if (!bytes)
                return;
            c->marks = 1;
        } else if (c->marks == 1) {
            c->marks = *bytes == STAMP_MARK[1] ? 2 : 0;
            c->digits = 0;
            c->stamp = 0;
        } else {
            c->stamp = c->stamp * 10 + (uint64_t)(*bytes - '0');
            if (++c->digits == STAMP_DIGITS) {
                c->marks = 0;
                take_stamp(c, now);
            }
        }
        bytes++;
    }
}

/* -- one connection ----------------------------------------------------------------------------------------------- */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void open_connection(struct connection *c)
{
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket");
    c->connected = false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&options.address, sizeof options.address) && errno != EINPROGRESS)
        die("connect");
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void send_request(struct connection *c)
{
    ssize_t sent = send(c->fd, request + c->request_sent, request_length - c->request_sent, MSG_NOSIGNAL);
    if (sent > 0)
        c->request_sent += (size_t)sent;
    watch(c, EPOLL_CTL_MOD, EPOLLIN | (c->request_sent < request_length ? EPOLLOUT : 0u));
}

static void ask(struct connection *c)
{
    response_reset(&c->response);
    c->request_sent = 0;
    c->chunks = c->marks = 0;
    c->last_stamp = 0;
    c->asked_at = now_ns();
    send_request(c);
}

static void reopen(struct connection *c)
{
    close(c->fd);
    open_connection(c);
}

static void finish(struct connection *c, bool whole)
{
    if (!whole || c->response.status != 200) {
        errors++;
        note_error("the connection ended early", 26);
    } else if (in_window(now_ns())) {
        answers++;
        if (options.stream && c->chunks != options.chunks)
            incomplete++;
    }
    if (whole && c->response.keep_alive)
        ask(c);
    else
        reopen(c);
}

static void read_answer(struct connection *c)
{
    static char bytes[READ_SIZE];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        c->response.keep_alive = false;
        finish(c, got == 0 && c->response.part == ENDLESS_BODY);
        return;
    }
    enum progress progress = response_feed(&c->response, bytes, (size_t)got, read_body, c);
    if (progress != MORE)
        finish(c, progress == COMPLETE);
}

static void serve(struct connection *c, uint32_t events)
{
    if (!c->connected) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errno = error;
            die("connect");
        }
        c->connected = true;
        ask(c);
        return;
    }
    if (events & EPOLLOUT)
        send_request(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_answer(c);
}

/* -- the run ------------------------------------------------------------------------------------------------------ */

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Opens the connections one by one over the ramp, so that the streams of a run do not beat in step. */
static void run(void)
{
    struct epoll_event ready[512];
    int opened = 0;
    bool begun = false;
    uint64_t start = now_ns(), step = (uint64_t)(options.ramp * 1e9 / options.connections);
    window_start = start + (uint64_t)(options.warm_up * 1e9);
    window_end = window_start + (uint64_t)(options.seconds * 1e9);
    for (uint64_t now = start; now < window_end; now = now_ns()) {
        if (!begun && now >= window_start) {
            begun = true;
            say("begin");
        }
        for (; opened < options.connections && now >= start + step * (uint64_t)opened; opened++)
            open_connection(&connections[opened]);
        uint64_t next = begun ? window_end : window_start;
        if (opened < options.connections)
            next = earliest(next, start + step * (uint64_t)opened);
        struct timespec wait = until(next);
        int count = epoll_pwait2(epoll_fd, ready, 512, &wait, NULL);
        for (int i = 0; i < count; i++)
            serve(ready[i].data.ptr, ready[i].events);
    }
    say("end");
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_us(const struct samples *sorted, double q)
{
    return sorted->count ? (double)sorted->values[(size_t)(q * (double)(sorted->count - 1))] / 1000.0 : -1;
}

static void report(void)
{
    qsort(chunk_latencies.values, chunk_latencies.count, sizeof(uint64_t), by_value);
    qsort(first_latencies.values, first_latencies.count, sizeof(uint64_t), by_value);
    printf("{\"seconds\":%.3f,\"chunks\":%zu,\"answers\":%lu,\"errors\":%lu,\"incomplete\":%lu,\"disordered\":%lu,"
           "\"chunk_p50_us\":%.1f,\"chunk_p99_us\":%.1f,\"chunk_max_us\":%.1f,\"first_p50_us\":%.1f}\n",
           options.seconds, chunk_latencies.count, answers, errors, incomplete, disordered,
           quantile_us(&chunk_latencies, 0.5), quantile_us(&chunk_latencies, 0.99), quantile_us(&chunk_latencies, 1),
           quantile_us(&first_latencies, 0.5));
    if (first_error[0])
        fprintf(stderr, "first error: %s\n", first_error);
}

static void parse_address(char *text)
{
    char *colon = strchr(text, ':');
    if (!colon)
        die("--address HOST:PORT");
    *colon = 0;
    options.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, text, &options.address.sin_addr) != 1)
        die("--address HOST:PORT");
}

static void parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"address", 1, 0, 'A'}, {"path", 1, 0, 'p'},    {"key", 1, 0, 'k'},     {"model", 1, 0, 'm'},
        {"chunks", 1, 0, 'n'},  {"gap-us", 1, 0, 'g'},  {"size", 1, 0, 'z'},    {"connections", 1, 0, 'c'},
        {"align", 0, 0, 'a'},   {"stream", 0, 0, 's'},  {"usage", 0, 0, 'u'},   {"seconds", 1, 0, 'd'},
        {"ramp", 1, 0, 'r'},    {"warm-up", 1, 0, 'w'}, {0, 0, 0, 0},
    };
    int letter;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (letter) {
        case 'A': parse_address(optarg); break;
        case 'p': options.path = optarg; break;
        case 'k': options.key = optarg; break;
        case 'm': options.model = optarg; break;
        case 'n': options.chunks = atoi(optarg); break;
        case 'g': options.gap_us = atoi(optarg); break;
        case 'z': options.size = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'a': options.align = 1; break;
        case 's': options.stream = 1; break;
        case 'u': options.usage = 1; break;
        case 'd': options.seconds = atof(optarg); break;
        case 'r': options.ramp = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        default: exit(2);
        }
    }
}

static void write_request(void)
{
    char body[2048];
    int length = snprintf(
        body, sizeof body,
        "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},"
        "{\"role\":\"user\",\"content\":\"bench chunks=%d gap_us=%d size=%d align=%d end\"}],"
        "\"max_tokens\":%d,\"temperature\":0.7%s%s}",
        options.model, options.chunks, options.gap_us, options.size, options.align, options.chunks,
        options.stream ? ",\"stream\":true" : "",
        options.usage ? ",\"stream_options\":{\"include_usage\":true}" : "");
    request_length = (size_t)snprintf(
        request, sizeof request,
        "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        "Accept: application/json\r\nUser-Agent: OpenAI/Python 1.99.0\r\nContent-Length: %d\r\n\r\n%s",
        options.path, options.key, length, body);
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    write_request();
    allow_many_files();
    signal(SIGPIPE, SIG_IGN);
    connections = calloc((size_t)options.connections, sizeof *connections);
    epoll_fd = epoll_create1(0);
    run();
    report();
    return 0;
}
