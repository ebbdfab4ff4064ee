/* explain.h - which object and field was written on each copied page? */
#ifndef CF_EXPLAIN_H
#define CF_EXPLAIN_H

#include "explain/fields.h"
#include "explain/other_memory.h"

#define CF_EXAMPLES 5
#define CF_MAX_CAUSES 32768

/* Who wrote a cause most. */
typedef struct {
    PyObject *op;          /* NULL: no object, or one that may not be touched */
    uintptr_t address;     /* of the first changed word */
    ptrdiff_t offset;      /* of that word in the object or table */
    cf_part part;
    const char *symbol;    /* of a library; or NULL */
    size_t words;
} cf_example;

typedef enum {
    CF_CHANGED,            /* words differ from the witness's */
    CF_SAME_BYTES,         /* the page was written, but reads the same again */
    CF_UNREADABLE,
} cf_change;

typedef struct {
    cf_change change;
    cf_place_kind place;   /* of CF_SAME_BYTES: where the page lies */
    cf_field field;        /* of objects */
    const void *what;      /* type of objects, base of libraries */
    const char *library;
    size_t pages;          /* that have this cause */
    size_t alone;          /* that have no other */
    size_t words;
    size_t objects;        /* or runs of words of none */
    cf_example examples[CF_EXAMPLES];
    size_t n_examples;
    cf_example current;
    PyObject *on_page;     /* the first object on that page; NULL: none to touch */
    size_t page;           /* 1 + number of the page looked at last */
    size_t words_on_page;
} cf_cause;

/* What the best known cause of a page is. */
typedef enum {
    CF_RANK_OBJECT,
    CF_RANK_ALLOCATOR,
    CF_RANK_SYSTEM,        /* interpreter, stack, libraries */
    CF_RANK_UNKNOWN,
    CF_N_RANKS
} cf_rank;

typedef struct {
    cf_cause *causes;
    size_t n_causes;
    uint32_t *index;       /* 1 + position in causes; 0: free */
    size_t ranks[CF_N_RANKS];
    unsigned char *before; /* a page of the witness */
    unsigned char *after;  /* the same page of the worker */
} cf_explanation;

/* Room for a worker's causes. Returns 0, or -1 (out of memory). */
int cf_explanation_reserve(cf_explanation *explanation);

void cf_explanation_clear(cf_explanation *explanation);

/* Explain N copied PAGES (ascending) of the process behind MEMORY, an open
 * /proc/PID/mem. MAIN_CAUSES[i] becomes the cause with the most changed words
 * on page i, MAIN_OWNERS[i] an object there that this cause wrote (borrowed),
 * or NULL. COLLECTED: the process ran a full collection, and nothing was in
 * the permanent generation. Needs the GIL from the building of
 * the index on; runs no Python code, allocates no object. Cannot fail. */
void cf_explain(cf_explanation *explanation, cf_places *places, int memory,
                bool collected, const uintptr_t *pages, size_t n,
                uint32_t *main_causes, PyObject **main_owners);

/* The cause that a write to the word at ADDRESS belongs to, or NULL when the
 * comparison found none for it. After cf_explain and cf_places_rewind, by
 * rising address. */
const cf_cause *cf_explain_cause_at(cf_explanation *explanation, cf_places *places,
                                    uintptr_t address);

/* For each object in TARGETS its position in the index, or SIZE_MAX. */
void cf_explain_positions(const cf_owners *owners, PyObject *const *targets, size_t n,
                          size_t *positions);

#endif
