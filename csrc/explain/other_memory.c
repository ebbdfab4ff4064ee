/* other_memory.c - what memory is it that belongs to no object?
 *
 *   address -> object or table of one (object_index.c), if the witness has the same type there
 *           -> a range that is known: stack, frames of Python functions, thread-local data
 *           -> by kind of mapping
 *                file (.data; not moved heap: remap.c), and .bss behind it   variable of a library: dladdr1
 *                anonymous                          pymalloc pool, block of malloc
 *                [heap]                             chunk of malloc
 *
 * A used block of a pool that the walk has not met may be an object all the
 * same, one that only C code holds: if a word in it points to a known type
 * exactly where an object of that type would have it, it is named by type, but
 * never touched: it may be gone.
 */
#define _GNU_SOURCE 1
#include "explain/other_memory.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

#define MAX_MAPPINGS ((size_t)1 << 20)
/* The dynamic linker searches symbols one by one: some 50 us in a libpython. */
#define MAX_LOOKUPS 4000
#define THREAD_ARENA ((uintptr_t)64 << 20)

/* -- ranges -------------------------------------------------------------- */

static void
know(cf_places *places, uintptr_t start, size_t size, cf_place_kind kind)
{
    if (places->n_ranges < sizeof(places->ranges) / sizeof(places->ranges[0])) {
        places->ranges[places->n_ranges++] = (cf_known_range){start, start + size, kind};
    }
}

static void
know_this_thread(cf_places *places)
{
    size_t size;
    void *stack;
    pthread_attr_t attributes;
#if CF_HAS_FRAME_STACK
    const _PyStackChunk *frames = PyThreadState_Get()->datastack_chunk;
    if (frames != NULL) {
        know(places, (uintptr_t)frames, frames->size, CF_PLACE_FRAMES);
    }
#endif
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &stack, &size) == 0) {
            know(places, (uintptr_t)stack, size, CF_PLACE_STACK);
        }
        pthread_attr_destroy(&attributes);
    }
    /* The thread's descriptor; thread-local variables lie right before it. */
    uintptr_t page = cf_page_size();
    uintptr_t self = (uintptr_t)pthread_self() & ~(page - 1);
    know(places, self - page, 2 * page, CF_PLACE_LIBRARY);
}

static int
read_mappings(cf_places *places, int fd)
{
    int ret = -1;
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    places->mappings = cf_mem_reserve(MAX_MAPPINGS * sizeof(cf_mapping));
    if (buffer == NULL || places->mappings == NULL || fd < 0) {
        goto done;
    }
    cf_maps maps;
    cf_maps_begin(&maps, fd, buffer, CF_MAPS_BUFFER);
    int status = 0;
    while (places->n_mappings < MAX_MAPPINGS
           && (status = cf_maps_next(&maps, &places->mappings[places->n_mappings])) == 1) {
        places->n_mappings++;
    }
    ret = status < 0 ? -1 : 0;

done:
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    return ret;
}

int
cf_places_begin(cf_places *places, cf_owners *owners, const cf_witness *witness, int memory)
{
    memset(places, 0, sizeof(*places));
    places->owners = owners;
    places->memory.fd = memory;
    places->memory.buffer = cf_mem_map(CF_SNAPSHOT_BUFFER);
    if (places->memory.buffer == NULL || read_mappings(places, witness->maps.fd) < 0) {
        cf_places_clear(places);
        return -1;
    }
    know_this_thread(places);
    cf_places_rewind(places);
    return 0;
}

void
cf_places_clear(cf_places *places)
{
    cf_mem_unmap(places->memory.buffer, CF_SNAPSHOT_BUFFER);
    cf_mem_unmap(places->mappings, MAX_MAPPINGS * sizeof(cf_mapping));
    memset(places, 0, sizeof(*places));
}

void
cf_places_rewind(cf_places *places)
{
    uintptr_t start = 0, end = 0;
    for (size_t i = 0; i < places->n_mappings; i++) {
        const cf_mapping *mapping = &places->mappings[i];
        if (mapping->area == CF_AREA_HEAP) {
            start = start == 0 ? mapping->start : start;
            end = mapping->end;
        }
    }
    places->mapping = 0;
    cf_chunks_begin(&places->chunks, start, end);
}

/* The mapping that holds ADDRESS, or NULL. */
static const cf_mapping *
find_mapping(cf_places *places, uintptr_t address)
{
    while (places->mapping < places->n_mappings
           && places->mappings[places->mapping].end <= address) {
        places->mapping++;
    }
    if (places->mapping == places->n_mappings
        || address < places->mappings[places->mapping].start) {
        return NULL;
    }
    return &places->mappings[places->mapping];
}

/* -- kinds of places ----------------------------------------------------- */

bool
cf_places_existed(cf_places *places, PyObject *op)
{
    if (places->checked != op) {
        PyTypeObject *type = NULL;
        const PyTypeObject *const *word = cf_snapshot_at(
            &places->memory, (uintptr_t)&op->ob_type, sizeof(type));
        places->same = word != NULL && *word == Py_TYPE(op);
        places->checked = op;
    }
    return places->same;
}

/* Is this first word of an object no count, but 0 or the link of a free list?
 * No count of a living object looks like an address: a mortal one is below
 * 2^32, and the flags of an immortal one (3.14) lie above all addresses. */
static bool
is_dead(uintptr_t word)
{
    return word == 0 || (word >> 32 != 0 && word >> 48 == 0 && word % 8 == 0);
}

/* May the block at BLOCK be an object? Its type's word says so. */
static bool
guess_object(cf_places *places, uintptr_t block, uintptr_t address, cf_place *place)
{
    enum { PLACES = 7 };
    PyTypeObject *words[PLACES + 2];
    const void *found = cf_snapshot_at(&places->memory, block, sizeof(words));
    if (found == NULL) {
        return false;
    }
    memcpy(words, found, sizeof(words));
    for (size_t i = 0; i < PLACES; i += 2) {
        PyTypeObject *type = words[i + 1];
        if (!cf_owners_knows_type(places->owners, type)
            || PyType_HasFeature(type, Py_TPFLAGS_TYPE_SUBCLASS)) {
            continue;
        }
        const cf_typeinfo *info = cf_owners_type(places->owners, type);
        size_t offset = i * sizeof(void *);
        if (offset != info->prefix && offset != info->prefix + 2 * sizeof(void *)) {
            continue; /* the second: debug hooks put two words in front */
        }
        place->kind = is_dead((uintptr_t)words[i]) ? CF_PLACE_FREE_LIST : CF_PLACE_OBJECT;
        place->what = type;
        place->owner.op = (PyObject *)(block + offset);
        place->owner.info = info;
        place->owner.part = CF_PART_BODY;
        place->owner.offset = (ptrdiff_t)(address - (block + offset));
        return true;
    }
    return false;
}

static bool
find_in_pool(cf_places *places, uintptr_t address, cf_place *place)
{
    uintptr_t block;
    switch (cf_pool_find(&places->pool, &places->memory, address, &block)) {
    case CF_POOL_NONE:
        return false;
    case CF_POOL_HEADER:
        place->kind = CF_PLACE_POOL_HEADER;
        break;
    case CF_POOL_FREE:
        place->kind = CF_PLACE_POOL_FREE;
        break;
    case CF_POOL_USED:
        place->kind = CF_PLACE_POOL_USED;
        (void)guess_object(places, block, address, place);
        break;
    }
    return true;
}

static bool
holds(const cf_chunks *chunks, const void *pointer)
{
    return (uintptr_t)pointer - chunks->chunk < chunks->size;
}

static void
find_in_heap(cf_places *places, uintptr_t address, cf_place *place)
{
    switch (cf_chunks_find(&places->chunks, &places->memory, address)) {
    case CF_CHUNK_HEADER:
        place->kind = CF_PLACE_CHUNK_HEADER;
        break;
    case CF_CHUNK_FREE:
        place->kind = CF_PLACE_CHUNK_FREE;
        break;
    case CF_CHUNK_TOP:
        place->kind = CF_PLACE_CHUNK_TOP;
        break;
    case CF_CHUNK_USED:
        /* Before 3.12 interpreter and thread state are blocks of malloc. */
        if (holds(&places->chunks, PyInterpreterState_Get())
            || holds(&places->chunks, PyThreadState_Get())) {
            place->kind = CF_PLACE_INTERPRETER;
            break;
        }
        place->kind = CF_PLACE_CHUNK_USED;
        break;
    case CF_CHUNK_UNKNOWN:
        place->kind = CF_PLACE_CHUNK_USED;
        break;
    }
}

/* dladdr with the symbol's size, which only glibc tells. Elsewhere (musl) SYMBOL stays NULL: the library has
 * a name and its variables have none, because a name without an end would claim what lies behind it. */
static int
find_symbol(uintptr_t address, Dl_info *info, const ElfW(Sym) **symbol)
{
#ifdef __GLIBC__
    return dladdr1((void *)address, info, (void **)symbol, RTLD_DL_SYMENT);
#else
    (void)symbol;
    return dladdr((void *)address, info);
#endif
}

/* The variable of a library at ADDRESS, if there is one. */
static bool
find_variable(cf_places *places, uintptr_t address, cf_place *place)
{
    if (address - places->library_start < places->library_end - places->library_start) {
        *place = places->library;
        return true;
    }
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (places->lookups++ > MAX_LOOKUPS || find_symbol(address, &info, &symbol) == 0) {
        return false;
    }
    place->kind = CF_PLACE_LIBRARY;
    place->library = info.dli_fname;
    place->what = info.dli_fbase;
    places->library_start = address;
    places->library_end = address + sizeof(uint64_t);
    if (symbol != NULL && info.dli_sname != NULL
        && address - (uintptr_t)info.dli_saddr < symbol->st_size) {
        place->symbol = info.dli_sname;
        if (strcmp(info.dli_sname, "_PyRuntime") == 0) {
            place->kind = CF_PLACE_INTERPRETER;
            place->what = NULL;
        }
        places->library_start = (uintptr_t)info.dli_saddr;
        places->library_end = places->library_start + symbol->st_size;
    }
    places->library = *place;
    return true;
}

/* Is the anonymous MAPPING the zeroed data behind a library's .data? */
static bool
is_bss(const cf_places *places, const cf_mapping *mapping)
{
    return mapping > places->mappings && mapping[-1].end == mapping->start
           && mapping[-1].area == CF_AREA_FILE && !mapping[-1].moved;
}

static void
find_anonymous(cf_places *places, const cf_mapping *mapping, uintptr_t address,
               cf_place *place)
{
    if (find_in_pool(places, address, place)) {
        return;
    }
    if (is_bss(places, mapping) && find_variable(places, address, place)) {
        return;
    }
    if (mapping->start % THREAD_ARENA == 0) {
        place->kind = CF_PLACE_CHUNK_ARENA;
    }
    else if (cf_chunk_is_mmapped(&places->memory, mapping->start, mapping->end)) {
        place->kind = CF_PLACE_CHUNK_MAPPED;
    }
}

static void
find_by_mapping(cf_places *places, uintptr_t address, cf_place *place)
{
    const cf_mapping *mapping = find_mapping(places, address);
    if (mapping == NULL) {
        return;
    }
    cf_area area = mapping->area;
    if (mapping->moved) { /* heap that freeze(remap=True) has put into a file */
        bool brk = address - places->chunks.start < places->chunks.end - places->chunks.start;
        area = brk ? CF_AREA_HEAP : CF_AREA_ANON;
    }
    switch (area) {
    case CF_AREA_ANON:
        find_anonymous(places, mapping, address, place);
        break;
    case CF_AREA_HEAP:
        find_in_heap(places, address, place);
        break;
    case CF_AREA_STACK:
        place->kind = CF_PLACE_STACK;
        break;
    case CF_AREA_FILE:
        if (!find_variable(places, address, place)) {
            place->kind = CF_PLACE_LIBRARY;
        }
        break;
    case CF_AREA_COUNT:
        break;
    }
}

void
cf_places_find(cf_places *places, uintptr_t address, cf_place *place)
{
    *place = (cf_place){.kind = CF_PLACE_UNKNOWN};
    if (cf_owners_find(places->owners, address, &place->owner)
        && cf_places_existed(places, place->owner.op)) {
        place->kind = CF_PLACE_OBJECT;
        place->reached = true;
        return;
    }
    for (size_t i = 0; i < places->n_ranges; i++) {
        const cf_known_range *range = &places->ranges[i];
        if (address >= range->start && address < range->end) {
            place->kind = range->kind;
            return;
        }
    }
    find_by_mapping(places, address, place);
}
