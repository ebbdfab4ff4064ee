/* stack.h - a stack of words whose memory is reserved before it is used, so
 * that pushing cannot fail. No Python.h. */
#ifndef CF_STACK_H
#define CF_STACK_H

#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uintptr_t *words;
    size_t used;
    size_t high_water;
    size_t capacity;
} cf_stack;

/* Address space for CAPACITY words. Returns 0, or -1 (out of memory). */
static inline int
cf_stack_reserve(cf_stack *stack, size_t capacity)
{
    *stack = (cf_stack){.words = cf_mem_reserve(capacity * sizeof(uintptr_t)),
                        .capacity = capacity};
    return stack->words == NULL ? -1 : 0;
}

/* Give the memory back. */
static inline void
cf_stack_clear(cf_stack *stack)
{
    cf_mem_unmap(stack->words, stack->capacity * sizeof(uintptr_t));
    *stack = (cf_stack){0};
}

static inline void
cf_stack_push(cf_stack *stack, uintptr_t word)
{
    stack->words[stack->used++] = word;
}

/* Bytes that were really used, at most since the start. */
static inline size_t
cf_stack_used_bytes(const cf_stack *stack)
{
    size_t words = stack->used > stack->high_water ? stack->used : stack->high_water;
    return words * sizeof(uintptr_t);
}

static inline uintptr_t
cf_stack_pop(cf_stack *stack)
{
    if (stack->used > stack->high_water) {
        stack->high_water = stack->used;
    }
    return stack->words[--stack->used];
}

#endif
