/* other_memory.h - what memory is it that belongs to no object? */
#ifndef CF_OTHER_MEMORY_H
#define CF_OTHER_MEMORY_H

#include "allocators/blocks_at_fork.h"
#include "proc/maps.h"
#include "explain/object_index.h"
#include "measure/witness.h"

typedef enum {
    CF_PLACE_OBJECT,       /* an object, or a block of it; see cf_owner */
    CF_PLACE_POOL_HEADER,  /* pymalloc */
    CF_PLACE_POOL_FREE,    /* ... a block that was free at the fork */
    CF_PLACE_POOL_USED,    /* ... in use by C code, or by an object nobody leads to */
    CF_PLACE_FREE_LIST,    /* a dead object that its type keeps for reuse */
    CF_PLACE_CHUNK_HEADER, /* malloc */
    CF_PLACE_CHUNK_FREE,
    CF_PLACE_CHUNK_USED,
    CF_PLACE_CHUNK_TOP,
    CF_PLACE_CHUNK_MAPPED, /* ... a large block in a mapping of its own */
    CF_PLACE_CHUNK_ARENA,  /* ... of another thread */
    CF_PLACE_INTERPRETER,  /* runtime, interpreter and thread state */
    CF_PLACE_FRAMES,       /* frames of Python functions */
    CF_PLACE_STACK,
    CF_PLACE_LIBRARY,      /* variables of a library or the program */
    CF_PLACE_UNKNOWN,
} cf_place_kind;

typedef struct {
    cf_place_kind kind;
    const void *what;      /* tells libraries apart; else NULL */
    const char *library;   /* path, or NULL */
    const char *symbol;    /* variable, or NULL */
    cf_owner owner;        /* for CF_PLACE_OBJECT */
    bool reached;          /* ... and the walk has met it: owner.op may be touched */
} cf_place;

typedef struct {
    uintptr_t start, end;
    cf_place_kind kind;
} cf_known_range;

typedef struct {
    cf_owners *owners;     /* borrowed */
    cf_snapshot memory;    /* of the witness */
    cf_mapping *mappings;  /* of the witness, ascending */
    size_t n_mappings;
    size_t mapping;        /* found last */
    cf_known_range ranges[8];
    size_t n_ranges;
    cf_pool pool;
    cf_chunks chunks;
    PyObject *checked;     /* its header was compared with the witness's ... */
    bool same;             /* ... and has the same type */
    cf_place library;      /* found last, for [start, end) */
    uintptr_t library_start, library_end;
    unsigned lookups;      /* of symbols, so far */
} cf_places;

/* Look at the memory of WITNESS through MEMORY, an open /proc/PID/mem of it.
 * Takes memory outside of the heaps. Returns 0, or -1 (out of memory, or the
 * witness's maps cannot be read; PLACES is empty). */
int cf_places_begin(cf_places *places, cf_owners *owners, const cf_witness *witness,
                    int memory);

/* Give everything back. */
void cf_places_clear(cf_places *places);

/* Start again at low addresses. */
void cf_places_rewind(cf_places *places);

/* What lay at ADDRESS at the fork. Addresses come in rising order. Runs no
 * Python code, allocates nothing. */
void cf_places_find(cf_places *places, uintptr_t address, cf_place *place);

/* Did the object OP exist at the fork, with the type that it has now? */
bool cf_places_existed(cf_places *places, PyObject *op);

#endif
