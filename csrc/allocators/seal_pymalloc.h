/* seal_pymalloc.h - leave no free block beside a frozen one. */
#ifndef CF_SEAL_PYMALLOC_H
#define CF_SEAL_PYMALLOC_H

#include "cpython/compat.h"
#include "base/objset.h"
#include "base/pageset.h"

typedef struct {
    size_t blocks;      /* pymalloc blocks taken and kept */
    size_t bytes;       /* their size */
    size_t returned;    /* bytes of them whose memory the kernel has got back */
    bool in_malloc;     /* objects are blocks of malloc's: there are no pools */
    bool pools_known;   /* pymalloc serves the heap and its pools look as expected */
} cf_seal_result;

/* Fill up the allocator's pools that hold both frozen and free blocks, so that a
 * worker's first allocations go to fresh pages; with FREE_POOLS its free pools,
 * too, up to a new arena. That costs up to a quarter of an arena for the pools'
 * headers, so it is not for each small freeze. The blocks are kept for ever.
 * RANGES are the N mappings that can be written, ascending, as they were before.
 * Cannot fail: without memory it stops early. */
void cf_seal_pools(cf_seal_result *result, bool free_pools, const cf_range *ranges, size_t n);

/* Take the huge-page advice away from the regions of PAGES (3.15 gives it to
 * every arena), so that khugepaged does not copy them in a worker. */
void cf_seal_huge_pages(const cf_pageset *pages);

#endif
