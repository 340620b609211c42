/* When is which connection due: a binary heap, earliest first. */
#ifndef TIMERS_H
#define TIMERS_H

#include "common.h"

struct timer {
    uint64_t due;
    int fd;
    unsigned ticket; /* of the answer it was set for; a timer that outlived its answer is dropped when it fires */
};

struct timers {
    struct timer *heap;
    size_t count, capacity;
};

static inline void timers_add(struct timers *t, struct timer new)
{
    t->heap = grow(t->heap, &t->capacity, t->count + 1, sizeof *t->heap);
    size_t i = t->count++;
    for (; i > 0 && t->heap[(i - 1) / 2].due > new.due; i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = new;
}

static inline struct timer timers_pop(struct timers *t)
{
    struct timer first = t->heap[0], last = t->heap[--t->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= t->count)
            break;
        if (child + 1 < t->count && t->heap[child + 1].due < t->heap[child].due)
            child++;
        if (t->heap[child].due >= last.due)
            break;
        t->heap[i] = t->heap[child];
        i = child;
    }
    t->heap[i] = last;
    return first;
}

#endif
