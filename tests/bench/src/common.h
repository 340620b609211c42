/* What the stand-in engine and the load generator share: one clock, the stamp inside a chunk, growing memory. */
#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* A chunk carries "@@" and this many digits: the engine's clock, in nanoseconds, when it sent the chunk. Digits in
 * the text survive proxies that decode and encode every event again; an HTTP header would not reach the client. */
#define STAMP_MARK "@@"
#define STAMP_DIGITS 19

static inline void die(const char *what)
{
    perror(what);
    exit(2);
}

/* CLOCK_MONOTONIC is one clock for every process of the machine, so stamps of one can be read by another. */
static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline struct timespec until(uint64_t due_ns)
{
    uint64_t now = now_ns();
    uint64_t wait = due_ns > now ? due_ns - now : 0;
    return (struct timespec){.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
}

static inline void write_stamp(char *at, uint64_t ns)
{
    for (int i = STAMP_DIGITS - 1; i >= 0; i--, ns /= 10)
        at[i] = (char)('0' + ns % 10);
}

/* Room for `need` elements of `size` bytes; doubles, so that appending stays cheap. */
static inline void *grow(void *array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return array;
    while (*capacity < need)
        *capacity = *capacity ? *capacity * 2 : 1024;
    array = realloc(array, *capacity * size);
    if (!array)
        die("realloc");
    return array;
}

static inline void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

#endif
