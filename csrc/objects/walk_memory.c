/* walk_memory.c - what a walk remembers, and the memory for it.
 *
 *   /proc/self/maps -> ranges [ brk heap ][ arena ][ arena ] ...   what can hold objects
 *                        |
 *                        +-> seen     1/64 of it     a bit for every 8 bytes
 *                        +-> todo     1/2 of it      a word for every 16 bytes
 *                        +-> codes, types, functions, tables
 *
 * All of it is address space (cf_mem_reserve): the kernel backs what is touched,
 * about one byte per object. Reserving the most that a walk can need is what
 * makes the walk, and with it the whole freeze, unable to fail half-way (I1).
 */
#include "objects/walk_memory.h"

#include "proc/maps.h"
#include "base/mem.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define TYPE_INDEX_SIZE (2 * CF_MAX_TYPES)
#define MIB_SHIFT 20
/* An object with edges that the collector tracks has 32 bytes at least, and may
 * be on the stack twice: noted down, and to be followed. */
#define BYTES_PER_WORD 16
/* Beside what objects can need: portions of wide containers (walk.c). */
#define SPARE_WORDS 4096

/* Add MAPPING to the ranges, joining neighbours. */
static int
add_range(cf_plan *plan, const cf_mapping *mapping)
{
    cf_range *last = plan->n_ranges > 0 ? &plan->ranges[plan->n_ranges - 1] : NULL;
    plan->n_regions += (mapping->end >> MIB_SHIFT) - (mapping->start >> MIB_SHIFT) + 1;
    if (last != NULL && last->end == mapping->start) {
        last->end = mapping->end;
        return 0;
    }
    if (plan->n_ranges == plan->ranges_capacity) {
        return -1; /* cannot be: there are at most vm.max_map_count mappings */
    }
    plan->ranges[plan->n_ranges++] = (cf_range){mapping->start, mapping->end};
    return 0;
}

/* Find what can hold objects. Returns 0, or -1 (out of memory, no /proc). */
static int
read_ranges(cf_plan *plan)
{
    int ret = -1;
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    plan->ranges_capacity = (size_t)1 << 20;
    plan->ranges = cf_mem_reserve(plan->ranges_capacity * sizeof(cf_range));
    if (buffer == NULL || plan->ranges == NULL || fd < 0) {
        goto done;
    }
    cf_maps maps;
    cf_mapping mapping;
    cf_maps_begin(&maps, fd, buffer, CF_MAPS_BUFFER);
    int status;
    while ((status = cf_maps_next(&maps, &mapping)) == 1) {
        if (mapping.writable && add_range(plan, &mapping) < 0) {
            goto done;
        }
    }
    ret = status;

done:
    if (fd >= 0) {
        close(fd);
    }
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    return ret;
}

int
cf_plan_reserve(cf_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    plan->page_mask = ~((uintptr_t)cf_page_size() - 1);
    cf_own_code_find(&plan->own_code);
    plan->tables = cf_pageset_new();
    plan->infos = cf_mem_reserve(CF_MAX_TYPES * sizeof(cf_typeinfo));
    plan->type_index = cf_mem_reserve(TYPE_INDEX_SIZE * sizeof(uint32_t));
    if (plan->tables == NULL || plan->infos == NULL || plan->type_index == NULL
        || read_ranges(plan) < 0) {
        goto error;
    }
    size_t words = SPARE_WORDS;
    for (size_t i = 0; i < plan->n_ranges; i++) {
        words += (plan->ranges[i].end - plan->ranges[i].start) / BYTES_PER_WORD;
    }
    if (cf_pageset_reserve_regions(plan->tables, plan->n_regions) < 0
        || cf_objset_reserve(&plan->seen, plan->ranges, plan->n_ranges) < 0
        || cf_stack_reserve(&plan->todo, words) < 0
        || cf_stack_reserve(&plan->codes, words / 8) < 0 /* they are large */
        || cf_stack_reserve(&plan->types, words / 16) < 0
        || cf_stack_reserve(&plan->functions, words / 8) < 0
        || cf_stack_reserve(&plan->left, words / 2) < 0
        || cf_stack_reserve(&plan->instances, words / 2) < 0) {
        goto error;
    }
    return 0;

error:
    cf_plan_clear(plan);
    return -1;
}

void
cf_plan_clear(cf_plan *plan)
{
    cf_objset_clear(&plan->seen);
    cf_pageset_free(plan->tables);
    cf_stack_clear(&plan->todo);
    cf_stack_clear(&plan->codes);
    cf_stack_clear(&plan->types);
    cf_stack_clear(&plan->functions);
    cf_stack_clear(&plan->left);
    cf_stack_clear(&plan->instances);
    cf_mem_unmap(plan->infos, CF_MAX_TYPES * sizeof(cf_typeinfo));
    cf_mem_unmap(plan->type_index, TYPE_INDEX_SIZE * sizeof(uint32_t));
    cf_mem_unmap(plan->ranges, plan->ranges_capacity * sizeof(cf_range));
    memset(plan, 0, sizeof(*plan));
}

void
cf_plan_exclude(cf_plan *plan, PyObject *op)
{
    if (cf_objset_add(&plan->seen, op)) {
        cf_stack_push(&plan->left, (uintptr_t)op);
    }
}

cf_typeinfo *
cf_plan_find_type_slowly(cf_plan *plan, PyTypeObject *type, bool *new)
{
    size_t i = (size_t)((uintptr_t)type * 0x9E3779B97F4A7C15u >> 32) % TYPE_INDEX_SIZE;
    while (plan->type_index[i] != 0
           && plan->infos[plan->type_index[i] - 1].type != type) {
        i = (i + 1) % TYPE_INDEX_SIZE;
    }
    cf_typeinfo *info;
    *new = plan->type_index[i] == 0;
    if (!*new) {
        info = &plan->infos[plan->type_index[i] - 1];
    }
    else if (plan->n_infos < CF_MAX_TYPES - 1) {
        info = &plan->infos[plan->n_infos++];
        plan->type_index[i] = (uint32_t)plan->n_infos;
        cf_policy_classify(info, type, plan->skip, &plan->own_code);
    }
    else {
        /* The last entry is for all the types that do not fit. It is decided
         * anew each time and never cached; its counts go on. */
        info = &plan->infos[CF_MAX_TYPES - 1];
        plan->n_infos = CF_MAX_TYPES;
        size_t count = info->count, bytes = info->bytes;
        cf_policy_classify(info, type, plan->skip, &plan->own_code);
        info->count = count;
        info->bytes = bytes;
        return info;
    }
    *cf_plan_type_way(plan, type) = (cf_type_way){type, info};
    return info;
}

static void
add_page(uintptr_t page, void *pages)
{
    (void)cf_pageset_add(pages, page, page + 1); /* reserved */
}

void
cf_plan_pages(cf_plan *plan, cf_pageset *pages)
{
    cf_objset_visit_pages(&plan->seen, add_page, pages);
    cf_pageset_merge(pages, plan->tables);
}

size_t
cf_plan_used_bytes(cf_plan *plan)
{
    return cf_objset_used_bytes(&plan->seen) + cf_stack_used_bytes(&plan->todo)
           + cf_stack_used_bytes(&plan->codes) + cf_stack_used_bytes(&plan->types)
           + cf_stack_used_bytes(&plan->functions) + cf_stack_used_bytes(&plan->left)
           + cf_stack_used_bytes(&plan->instances)
           + plan->n_infos * (sizeof(cf_typeinfo) + 2 * sizeof(uint32_t))
           + cf_pageset_used_bytes(plan->tables);
}
