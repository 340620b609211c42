/* One HTTP/1.1 response, read as it arrives. Knows Content-Length, chunked, and a body that ends with the connection. */
#ifndef RESPONSE_H
#define RESPONSE_H

#include "common.h"

#include <stdbool.h>
#include <strings.h>

#define HEAD_SIZE 8192

enum part { HEAD, SIZED_BODY, ENDLESS_BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct response {
    enum part part;
    int status;
    bool keep_alive;
    long left; /* bytes of this body, or of this chunk */
    char head[HEAD_SIZE];
    size_t head_length;
    size_t line_length; /* of the trailer line under way */
};

enum progress { MORE, COMPLETE, BROKEN };

typedef void (*body_reader)(void *owner, const char *bytes, size_t length);

static inline void response_reset(struct response *r)
{
    r->part = HEAD;
    r->status = 0;
    r->head_length = r->line_length = 0;
    r->left = 0;
}

static inline void response_read_headers(struct response *r)
{
    r->status = atoi(r->head + strlen("HTTP/1.1 "));
    r->keep_alive = true;
    r->part = ENDLESS_BODY;
    for (const char *line = strstr(r->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15)) {
            r->part = SIZED_BODY;
            r->left = atol(line + 15);
        } else if (!strncasecmp(line, "transfer-encoding: chunked", 26)) {
            r->part = CHUNK_SIZE;
            r->left = 0;
        } else if (!strncasecmp(line, "connection: close", 17)) {
            r->keep_alive = false;
        }
    }
}

/* Takes the head's bytes; returns how many, or -1 for a head that is too long. */
static inline long response_take_head(struct response *r, const char *bytes, size_t length)
{
    size_t before = r->head_length, room = HEAD_SIZE - 1 - before;
    size_t taken = length < room ? length : room;
    if (!taken)
        return -1;
    memcpy(r->head + before, bytes, taken);
    r->head[before + taken] = 0;
    char *end = strstr(r->head, "\r\n\r\n");
    if (!end) {
        r->head_length += taken;
        return (long)taken;
    }
    end[2] = 0;
    response_read_headers(r);
    return (long)(end + 4 - r->head - (long)before);
}

static inline void response_take_size(struct response *r, char c)
{
    if (c == '\n')
        r->part = r->left ? CHUNK_DATA : TRAILER;
    else if (c != '\r')
        r->left = r->left * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

static inline enum progress response_take_trailer(struct response *r, char c)
{
    if (c == '\n' && r->line_length == 0)
        return COMPLETE;
    if (c == '\n')
        r->line_length = 0;
    else if (c != '\r')
        r->line_length++;
    return MORE;
}

static inline size_t response_take_body(struct response *r, const char *bytes, size_t length, body_reader read, void *owner)
{
    if (r->part != ENDLESS_BODY && (long)length > r->left)
        length = (size_t)r->left;
    read(owner, bytes, length);
    r->left -= (long)length;
    return length;
}

/* Reads on, hands every piece of the body to `read`, and says whether the response is complete. */
static inline enum progress response_feed(
    struct response *r, const char *bytes, size_t length, body_reader read, void *owner)
{
    size_t i = 0;
    while (i < length) {
        switch (r->part) {
        case HEAD: {
            long taken = response_take_head(r, bytes + i, length - i);
            if (taken < 0)
                return BROKEN;
            i += (size_t)taken;
            break;
        }
        case CHUNK_SIZE:
            response_take_size(r, bytes[i++]);
            break;
        case CHUNK_END:
            if (bytes[i++] == '\n') {
                r->part = CHUNK_SIZE;
                r->left = 0;
            }
            break;
        case TRAILER:
            if (response_take_trailer(r, bytes[i++]) == COMPLETE)
                return COMPLETE;
            break;
        default:
            i += response_take_body(r, bytes + i, length - i, read, owner);
            if (r->part == CHUNK_DATA && !r->left)
                r->part = CHUNK_END;
        }
        if (r->part == SIZED_BODY && !r->left)
            return COMPLETE;
    }
    return MORE;
}

#endif
