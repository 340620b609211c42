/* A stand-in for a vLLM server: it answers chat completions as vLLM's HTTP server does, and costs next to nothing.
 *
 *   engine HOST PORT
 *
 * How to answer stands in the prompt, so it passes through any proxy that keeps the messages:
 *
 *   bench chunks=64 gap_us=10000 first_us=0 size=250 align=0 id=0 end
 *
 * `first_us` is the silence before the first chunk (or before the whole answer), `align=1` sends the chunks of all
 * streams at the same moments, as one step of a real engine does, and `id` names a request whose hang-up is of
 * interest. One thread, one epoll; every event of a stream is one send(), as uvicorn under vLLM does it.
 *
 * GET /health, /v1/models, /metrics, /stats (requests now under way) and /requests/ID: when did that request begin,
 * and when did its peer go away in the middle of it, on the machine's monotonic clock; 0 = not yet.
 */
#include "texts.h"
#include "timers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_ID 65536
#define MAX_SIZE 4000
#define READ_SIZE 16384

struct answer {
    bool under_way, stream, usage;
    long chunks, sent, size, id;
    uint64_t gap, due;
};

struct connection {
    bool open;
    unsigned ticket;
    char *in, *out;
    size_t in_length, in_capacity, out_length, out_sent, out_capacity;
    bool waits_for_room;
    struct answer answer;
};

static struct connection connections[MAX_FD];
static struct {
    uint64_t began_at, hung_up_at;
} requests[MAX_ID];
static struct timers timers;
static long active;
static int epoll_fd;

/* -- bytes out ---------------------------------------------------------------------------------------------------- */

static void watch(int fd, bool for_room)
{
    struct connection *c = &connections[fd];
    if (c->waits_for_room == for_room)
        return;
    c->waits_for_room = for_room;
    struct epoll_event event = {.events = EPOLLIN | (for_room ? EPOLLOUT : 0u), .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

static bool blocked(const struct connection *c)
{
    return c->out_sent < c->out_length;
}

/* Sends now what the socket takes and keeps the rest. False when the peer is gone. */
static bool flush(int fd)
{
    struct connection *c = &connections[fd];
    while (blocked(c)) {
        ssize_t sent = send(fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0)
            return false;
        c->out_sent += (size_t)sent;
    }
    if (!blocked(c))
        c->out_sent = c->out_length = 0;
    watch(fd, blocked(c));
    return true;
}

static bool write_out(int fd, const char *bytes, size_t length)
{
    struct connection *c = &connections[fd];
    c->out = grow(c->out, &c->out_capacity, c->out_length + length, 1);
    memcpy(c->out + c->out_length, bytes, length);
    c->out_length += length;
    return flush(fd);
}

/* -- answers ------------------------------------------------------------------------------------------------------ */

static bool respond(int fd, const char *status, const char *type, const char *body)
{
    char text[2048];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\ndate: Sat, 01 Nov 2025 00:00:00 GMT\r\nserver: uvicorn\r\n"
                          "content-length: %zu\r\ncontent-type: %s\r\n\r\n%s",
                          status, strlen(body), type, body);
    return write_out(fd, text, (size_t)length);
}

/* One piece of text, padded with blanks to `size` bytes, with the moment of sending in it. */
static bool send_chunk(int fd)
{
    struct answer *a = &connections[fd].answer;
    char event[MAX_SIZE + 512], framed[MAX_SIZE + 600];
    int start = sprintf(event, EVENT_START "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"" STAMP_MARK,
                        a->sent ? "" : "\"role\":\"assistant\",");
    int padding = (int)a->size - start - STAMP_DIGITS - (int)strlen(DELTA_END);
    int length = start + sprintf(event + start, "%*s%*s" DELTA_END, STAMP_DIGITS, "", padding > 0 ? padding : 0, "");
    a->sent++;
    write_stamp(event + start, now_ns());
    int framed_length = sprintf(framed, "%x\r\n%.*s\r\n", (unsigned)length, length, event);
    return write_out(fd, framed, (size_t)framed_length);
}

static bool send_stream_end(int fd)
{
    struct answer *a = &connections[fd].answer;
    char event[512], framed[1536];
    int length = sprintf(event, LAST_EVENT);
    int framed_length = sprintf(framed, "%x\r\n%s\r\n", (unsigned)length, event);
    if (a->usage) {
        length = sprintf(event,
                         EVENT_START "\"choices\":[],\"usage\":{\"prompt_tokens\":42,\"total_tokens\":%ld,"
                                     "\"completion_tokens\":%ld}}\n\n",
                         42 + a->chunks, a->chunks);
        framed_length += sprintf(framed + framed_length, "%x\r\n%s\r\n", (unsigned)length, event);
    }
    framed_length += sprintf(framed + framed_length, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    a->under_way = false;
    active--;
    return write_out(fd, framed, (size_t)framed_length);
}

static bool send_whole(int fd)
{
    connections[fd].answer.under_way = false;
    active--;
    return respond(fd, "200 OK", "application/json", WHOLE_ANSWER);
}

static void set_timer(int fd)
{
    struct connection *c = &connections[fd];
    timers_add(&timers, (struct timer){.due = c->answer.due, .fd = fd, .ticket = c->ticket});
}

/* Everything that is due by now. A stream without a gap runs until the socket is full; flush() brings it back. */
static bool advance(int fd)
{
    struct answer *a = &connections[fd].answer;
    if (!a->stream)
        return send_whole(fd);
    if (a->gap) {
        a->due += a->gap;
        if (!(a->sent < a->chunks ? send_chunk(fd) : send_stream_end(fd)))
            return false;
        if (a->under_way)
            set_timer(fd);
        return true;
    }
    while (a->under_way && !blocked(&connections[fd]))
        if (!(a->sent < a->chunks ? send_chunk(fd) : send_stream_end(fd)))
            return false;
    return true;
}

/* -- requests ----------------------------------------------------------------------------------------------------- */

static long option(const char *text, const char *name, long otherwise)
{
    const char *found = text ? strstr(text, name) : NULL;
    return found ? atol(found + strlen(name)) : otherwise;
}

static bool begin_answer(int fd, const char *body)
{
    struct connection *c = &connections[fd];
    const char *wish = strstr(body, "bench chunks=");
    struct answer a = {
        .under_way = true,
        .stream = strstr(body, "\"stream\":true") || strstr(body, "\"stream\": true"),
        .usage = strstr(body, "\"include_usage\":true") || strstr(body, "\"include_usage\": true"),
        .chunks = option(wish, "chunks=", 16),
        .gap = (uint64_t)option(wish, "gap_us=", 0) * 1000u,
        .size = option(wish, "size=", 250),
        .id = labs(option(wish, "id=", 0)) % MAX_ID,
        .due = now_ns() + (uint64_t)option(wish, "first_us=", 0) * 1000u,
    };
    if (a.size > MAX_SIZE)
        a.size = MAX_SIZE;
    bool wait = a.due > now_ns();
    if (option(wish, "align=", 0) && a.gap) {
        a.due = (a.due / a.gap + 1) * a.gap;
        wait = true;
    }
    c->answer = a;
    c->ticket++;
    requests[a.id].began_at = now_ns();
    active++;
    if (a.stream && !write_out(fd, STREAM_HEAD, sizeof STREAM_HEAD - 1))
        return false;
    if (!wait)
        return advance(fd);
    set_timer(fd);
    return true;
}

static bool get(int fd, const char *path)
{
    char body[160];
    if (!strncmp(path, "/requests/", 10)) {
        unsigned long id = strtoul(path + 10, NULL, 10) % MAX_ID;
        snprintf(body, sizeof body, "{\"began_at\":%llu,\"hung_up_at\":%llu}",
                 (unsigned long long)requests[id].began_at, (unsigned long long)requests[id].hung_up_at);
        return respond(fd, "200 OK", "application/json", body);
    }
    if (!strncmp(path, "/stats", 6)) {
        snprintf(body, sizeof body, "{\"active\":%ld}", active);
        return respond(fd, "200 OK", "application/json", body);
    }
    if (!strncmp(path, "/metrics", 8))
        return respond(fd, "200 OK", "text/plain; version=0.0.4", METRICS);
    if (!strncmp(path, "/v1/models", 10))
        return respond(fd, "200 OK", "application/json", MODELS);
    return respond(fd, "200 OK", "application/json", "{}");
}

/* The body's length, or -1 for a body that says its length only at its end, which no client of ours sends. */
static long body_length(const char *head, const char *end)
{
    long length = 0;
    for (const char *line = strstr(head, "\r\n"); line && line < end; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15))
            length = atol(line + 15);
        else if (!strncasecmp(line, "transfer-encoding:", 18))
            return -1;
    }
    return length;
}

/* Answers the requests that have arrived whole, one after the other. False when the connection is to be closed. */
static bool handle_requests(int fd)
{
    struct connection *c = &connections[fd];
    while (!c->answer.under_way && c->in_length) {
        c->in[c->in_length] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end)
            return true;
        long length = body_length(c->in, end);
        if (length < 0)
            return respond(fd, "411 Length Required", "application/json", "{}") && false;
        char *body = end + 4, *next = body + length;
        if (next > c->in + c->in_length)
            return true;
        char first_of_next = *next;
        *next = 0;
        bool fine = strncmp(c->in, "GET ", 4) ? begin_answer(fd, body) : get(fd, c->in + 4);
        *next = first_of_next;
        if (!fine)
            return false;
        c->in_length -= (size_t)(next - c->in);
        memmove(c->in, next, c->in_length);
    }
    return true;
}

/* -- the loop ----------------------------------------------------------------------------------------------------- */

static void close_connection(int fd)
{
    struct connection *c = &connections[fd];
    if (c->answer.under_way) {
        active--;
        if (c->answer.id > 0)
            requests[c->answer.id].hung_up_at = now_ns();
    }
    close(fd);
    free(c->in);
    free(c->out);
    *c = (struct connection){.ticket = c->ticket + 1};
}

static bool read_in(int fd)
{
    struct connection *c = &connections[fd];
    c->in = grow(c->in, &c->in_capacity, c->in_length + READ_SIZE + 1, 1);
    ssize_t got = recv(fd, c->in + c->in_length, READ_SIZE, 0);
    if (got < 0)
        return errno == EAGAIN;
    c->in_length += (size_t)got;
    return got > 0 && handle_requests(fd);
}

static bool serve(int fd, unsigned events)
{
    if (events & (EPOLLHUP | EPOLLERR))
        return false;
    if (events & EPOLLOUT) {
        if (!flush(fd))
            return false;
        struct answer *a = &connections[fd].answer;
        if (a->under_way && a->stream && !a->gap && !advance(fd))
            return false;
    }
    return !(events & EPOLLIN) || read_in(fd);
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd].open = true;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void fire_timers(void)
{
    uint64_t now = now_ns();
    while (timers.count && timers.heap[0].due <= now) {
        struct timer t = timers_pop(&timers);
        struct connection *c = &connections[t.fd];
        if (!c->open || c->ticket != t.ticket || !c->answer.under_way)
            continue;
        if (!advance(t.fd) || !handle_requests(t.fd))
            close_connection(t.fd);
    }
}

static int listen_on(const char *host, int port)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("host");
    if (bind(listener, (struct sockaddr *)&address, sizeof address))
        die("bind");
    if (listen(listener, 4096))
        die("listen");
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: engine HOST PORT\n");
        return 2;
    }
    allow_many_files();
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0); /* the default, 50 us, would show in every latency */
    int listener = listen_on(argv[1], atoi(argv[2]));
    epoll_fd = epoll_create1(0);
    struct epoll_event ready[512], event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct timespec wait = {0};
        if (timers.count)
            wait = until(timers.heap[0].due);
        int count = epoll_pwait2(epoll_fd, ready, 512, timers.count ? &wait : NULL, NULL);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener)
                accept_all(listener);
            else if (connections[fd].open && !serve(fd, ready[i].events))
                close_connection(fd);
        }
        fire_timers();
    }
}
