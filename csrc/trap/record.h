/* record.h - what a trap has seen, in memory that a parent can read too.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_TRAP_RECORD_H
#define CF_TRAP_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CF_TRAP_FRAMES 12    /* of the innermost Python functions */
#define CF_TRAP_CODES 4096   /* functions that can be told apart */
#define CF_TRAP_TEXT 232     /* bytes of a file name; the end of a longer one */
#define CF_TRAP_NAME 104     /* bytes of a function's name */
#define CF_TRAP_LINES 2048   /* lines that are remembered, a power of two */

/* Why a write has no stack, or not all of it. */
typedef enum {
    CF_STACK_COMPLETE,
    CF_STACK_LONGER,       /* there were more frames than room */
    CF_STACK_NO_THREAD,    /* no Python thread, or none of its functions ran */
    CF_STACK_LAYOUT,       /* the frames of this interpreter did not pass their check */
    CF_STACK_UNREADABLE,   /* a word was not what it should be */
    CF_STACK_CODES_FULL,
} cf_stack_end;

typedef struct {
    uint32_t code;         /* position in cf_trap_buffer.codes */
    int32_t line;          /* 0: unknown */
} cf_trap_frame;

/* The first write to one page. */
typedef struct {
    uint64_t address;      /* of the written word, a multiple of 8 */
    uint64_t old_value;    /* of that word, before the write */
    int32_t thread;
    uint16_t n_frames;
    uint16_t stack_end;    /* cf_stack_end */
    cf_trap_frame frames[CF_TRAP_FRAMES]; /* innermost first */
} cf_trap_write;

/* A Python function, copied when it was met first: code objects are freed, and
 * others are made at their addresses. */
typedef struct {
    uint64_t identity[3];  /* address of the code, of its line table, first line */
    uint16_t file_size;
    uint16_t name_size;
    uint32_t older;        /* 1 + position of another one with the same hash; 0: none */
    char file[CF_TRAP_TEXT];
    char name[CF_TRAP_NAME];
} cf_trap_code;

typedef enum {
    CF_TRAP_NONE,
    CF_TRAP_PERF,          /* page faults reported by perf, as SIGTRAP */
    CF_TRAP_PROTECT,       /* write-protected pages, SIGSEGV */
} cf_trap_backend;

typedef enum {
    CF_TRAP_NOT_RUN,
    CF_TRAP_RAN,
    CF_TRAP_FAILED,        /* could not be prepared or armed: see failure */
} cf_trap_outcome;

/* Everything about one trap. Lies in a mapping of its own, private or shared. */
typedef struct {
    uint32_t backend;      /* cf_trap_backend */
    uint32_t why;          /* cf_trap_why: why not perf */
    int32_t error;         /* the errno of that */
    int32_t pid;           /* of the process that is watched */
    uint32_t state;        /* cf_trap_outcome */
    int32_t failure;       /* errno */
    uint64_t watched;      /* pages */
    uint64_t exclusive;    /* of them, this process's alone at the start; UINT64_MAX: unknown */
    uint64_t ranges;       /* of pages */
    uint64_t joined;       /* pages that only joined ranges: protected, not watched */
    uint64_t signals;
    uint64_t unseen;       /* faults for which no signal came */
    uint64_t given_up;     /* pages opened because the kernel had no more mappings */
    uint64_t lost;         /* writes for which there was no room */
    uint64_t room;
    uint64_t n;            /* writes */
    uint64_t n_codes;
    uint32_t hashes[CF_TRAP_CODES];  /* 1 + position in codes; 0: none */
    struct {
        uint32_t code;     /* 1 + position in codes */
        int32_t position;
        int32_t line;
    } lines[CF_TRAP_LINES];
    cf_trap_code codes[CF_TRAP_CODES];
    cf_trap_write writes[];
} cf_trap_buffer;

/* Bytes of a buffer with room for N writes. */
size_t cf_trap_buffer_size(size_t n);

/* An empty one for N writes, or NULL with errno set. SHARED: children write
 * into the same memory. Only address space until it is used. */
cf_trap_buffer *cf_trap_buffer_new(size_t n, bool shared);

void cf_trap_buffer_free(cf_trap_buffer *buffer);

/* Forget all writes, for another trap. */
void cf_trap_buffer_reset(cf_trap_buffer *buffer);

/* The function with IDENTITY; *NEW: it was not there, its texts are to be
 * filled in. NULL: no room. One caller at a time. Async-signal-safe. */
cf_trap_code *cf_trap_buffer_code(cf_trap_buffer *buffer, const uint64_t identity[3],
                                  bool *is_new);

/* The line of POSITION in CODE if it is remembered, else -1; and remember it.
 * One caller at a time. Async-signal-safe. */
int32_t cf_trap_buffer_line(const cf_trap_buffer *buffer, uint32_t code, int32_t position);
void cf_trap_buffer_keep_line(cf_trap_buffer *buffer, uint32_t code, int32_t position,
                              int32_t line);

#endif
