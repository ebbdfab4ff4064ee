/* freeze.h - what a freeze is asked to do, and what it did. */
#ifndef CF_FREEZE_H
#define CF_FREEZE_H

#include "cpython/compat.h"
#include "base/pageset.h"
#include "objects/type_info.h"

/* What a freeze is asked to do. */
typedef struct {
    PyObject *roots;         /* tuple; empty: the whole heap */
    PyTypeObject **skip;     /* NULL-terminated, or NULL */
    PyObject *own[2];        /* the report, which is never part of the plan */
    PyObject *files;         /* a list, nor is it: for files with buffers that were left */
    bool collect;            /* run a full collection first */
    bool gc_freeze;          /* move the rest to the permanent generation */
    bool seal;               /* fill up partly used allocator pools */
    bool dry_run;            /* only count; nothing is written */
    bool relocate;           /* move hot code objects together; whole heap only */
    bool instance_dicts;     /* make the __dict__ of instances that have none so far */
    bool takes_over;         /* finish what other processes left that froze before (kept.h) */
    bool utf8;               /* make the UTF-8 form of str that are not ASCII */
} cf_request;

/* Why a freeze was refused (I6). */
typedef enum {
    CF_REFUSED_NOT = 0,
    CF_REFUSED_COLLECTOR,    /* called while a collection is running */
    CF_REFUSED_INTERPRETERS, /* there is another interpreter */
} cf_refusal;

typedef struct {
    PyTypeObject *type;      /* immortal itself once the freeze is done */
    size_t count;
    size_t bytes;
} cf_type_count;

/* What a freeze did. All numbers; nothing of it is allocated after the walk. */
typedef struct {
    size_t objects;          /* marked by this freeze */
    size_t bytes;            /* of them, tables included */
    size_t pages;            /* that hold them */
    size_t unwarmed;         /* taken, but a reader may still fill a hash */
    size_t unbelieved;       /* sizes that do not lie in one block or mapping: not counted */
    size_t records;          /* numpy arrays whose object fields were not followed */
    size_t skipped[CF_N_DECISIONS];
    size_t tagged_references;
    size_t patched_constants;
    size_t unreadable_codes;
    size_t sealed_blocks;
    size_t sealed_bytes;
    size_t returned_bytes;   /* of the sealed pools, given back to the kernel */
    size_t sealed_chunks;    /* of malloc */
    size_t sealed_chunk_bytes;
    const char *chunks_why;  /* why malloc's heap was not sealed; NULL: it was, or not asked */
    size_t bare;             /* instances taken without a __dict__, and their bytes */
    size_t bare_bytes;
    size_t raw_str;          /* str taken without their UTF-8 form, and their bytes */
    size_t raw_str_bytes;
    size_t made_dicts;       /* of instances */
    size_t made_utf8;        /* of str */
    size_t stopped_counters; /* classes whose shared key tables are no longer counted */
    size_t relocated_codes;
    size_t relocated_bytes;
    size_t unmoved_codes;    /* hot, but watched by somebody or beyond the room */
    size_t peak_extra_bytes; /* book-keeping that was really used, at its largest */
    bool pools_known;
    bool in_malloc;          /* objects are blocks of malloc's, which has no pools */
    bool frames_known;
    cf_refusal refused;
    bool shared_keys_known;
    bool counters_known;     /* of shared keys */
    double seconds_collect;
    double seconds_walk;     /* find, warm, mark, untrack */
    double seconds_seal;     /* live references, gc.freeze(), pools */
    cf_type_count *types;    /* by falling bytes */
    size_t n_types;
    size_t types_mapped;     /* size of that array's memory */
} cf_outcome;

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_init(void);

/* Freeze. Returns 0, or -1 with an exception; then no object was marked (I1). If it was
 * refused, that is no error and outcome->refused says why: no object is marked.
 * Needs the GIL; see the phases in freeze.c. */
int cf_freeze(const cf_request *request, cf_outcome *outcome);

/* Give back what an outcome holds. */
void cf_outcome_clear(cf_outcome *outcome);

/* Would a reader in a worker leave this object's header alone? */
static inline bool
cf_is_frozen(PyObject *op)
{
    return cf_header_untouched(op);
}

/* Threads of Python that exist beside this one. */
size_t cf_other_threads(void);

#endif
