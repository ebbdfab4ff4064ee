/* explain.c - which object and field was written on each copied page?
 *
 *   page of the witness   [ a b c d e f ... ]     what it was at the fork
 *   page of the worker    [ a b X d e Y ... ]
 *                               |     `---> pool header
 *                               `---------> reference count of a list
 *
 *   causes   [ list, reference count | pages words | examples ][ pool header | ... ]
 *
 * Words are compared, because that is what a page costs to compare. A cause is
 * a kind of owner and a field, so a heap of ten million written counts is one
 * line per type; the objects that were written most are kept as examples.
 *
 * A page without a changed word was written all the same: a count that went up
 * and down, a lock that was taken and given back. Objects on it whose count is
 * still counted are the likely writers, then code, then what lies there.
 */
#include "explain/explain.h"

#include "base/mem.h"
#include "base/pageset.h"

#include <string.h>

#define INDEX_SIZE (2 * CF_MAX_CAUSES)
#define CAUSES_PER_PAGE 64

typedef struct {
    cf_explanation *explanation;
    cf_places *places;
    bool collected;
    size_t page;                    /* 1 + its number */
    cf_cause *found[CAUSES_PER_PAGE];
    size_t n_found;
} page_scan;

int
cf_explanation_reserve(cf_explanation *explanation)
{
    memset(explanation, 0, sizeof(*explanation));
    explanation->causes = cf_mem_reserve(CF_MAX_CAUSES * sizeof(cf_cause));
    explanation->index = cf_mem_reserve(INDEX_SIZE * sizeof(uint32_t));
    explanation->before = cf_mem_map(cf_page_size());
    explanation->after = cf_mem_map(cf_page_size());
    if (explanation->causes == NULL || explanation->index == NULL
        || explanation->before == NULL || explanation->after == NULL) {
        cf_explanation_clear(explanation);
        return -1;
    }
    return 0;
}

void
cf_explanation_clear(cf_explanation *explanation)
{
    cf_mem_unmap(explanation->causes, CF_MAX_CAUSES * sizeof(cf_cause));
    cf_mem_unmap(explanation->index, INDEX_SIZE * sizeof(uint32_t));
    cf_mem_unmap(explanation->before, cf_page_size());
    cf_mem_unmap(explanation->after, cf_page_size());
    memset(explanation, 0, sizeof(*explanation));
}

/* -- causes -------------------------------------------------------------- */

/* NULL: there is none yet, and none shall be made. */
static cf_cause *
look_up_cause(cf_explanation *explanation, cf_change change, const cf_place *place,
              cf_field field, bool make)
{
    const void *what = place->kind == CF_PLACE_OBJECT ? place->owner.info->type : place->what;
    uint64_t key = (uint64_t)(uintptr_t)what * 31 + (uint64_t)field * 1024
                   + (uint64_t)place->kind * 8 + (uint64_t)change;
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> 32) % INDEX_SIZE;
    cf_cause *cause;
    for (; explanation->index[i] != 0; i = (i + 1) % INDEX_SIZE) {
        cause = &explanation->causes[explanation->index[i] - 1];
        if (cause->what == what && cause->field == field && cause->place == place->kind
            && cause->change == change) {
            return cause;
        }
    }
    if (!make) {
        return NULL;
    }
    if (explanation->n_causes == CF_MAX_CAUSES) {
        return &explanation->causes[CF_MAX_CAUSES - 1]; /* more kinds than any heap has */
    }
    cause = &explanation->causes[explanation->n_causes++];
    explanation->index[i] = (uint32_t)explanation->n_causes;
    *cause = (cf_cause){.change = change, .place = place->kind, .field = field, .what = what,
                        .library = place->library};
    return cause;
}

static cf_cause *
find_cause(cf_explanation *explanation, cf_change change, const cf_place *place,
           cf_field field)
{
    return look_up_cause(explanation, change, place, field, true);
}

const cf_cause *
cf_explain_cause_at(cf_explanation *explanation, cf_places *places, uintptr_t address)
{
    cf_place place;
    cf_places_find(places, address, &place);
    cf_field field = place.kind == CF_PLACE_OBJECT ? cf_field_of(&place.owner) : CF_FIELD_NONE;
    const cf_cause *cause = look_up_cause(explanation, CF_CHANGED, &place, field, false);
    return cause != NULL ? cause
                         : look_up_cause(explanation, CF_SAME_BYTES, &place, field, false);
}

/* The words of one object are over: is it among those written most? Of many that were written alike one
 * from further on is kept too: the lowest addresses are rarely what a heap is full of. */
static void
keep_example(cf_cause *cause)
{
    if (cause->current.address == 0) {
        return;
    }
    cause->objects++;
    size_t least = 0;
    if (cause->n_examples < CF_EXAMPLES) {
        cause->examples[cause->n_examples++] = cause->current;
        return;
    }
    for (size_t i = 1; i < CF_EXAMPLES; i++) {
        if (cause->examples[i].words < cause->examples[least].words) {
            least = i;
        }
    }
    bool power_of_two = (cause->objects & (cause->objects - 1)) == 0;
    if (cause->current.words + power_of_two > cause->examples[least].words) {
        cause->examples[least] = cause->current;
    }
}

static void
count_word(page_scan *scan, cf_cause *cause, const cf_place *place, uintptr_t address,
           size_t words)
{
    if (cause->page != scan->page) {
        cause->page = scan->page;
        cause->pages++;
        cause->words_on_page = 0;
        cause->on_page = NULL;
        if (scan->n_found < CAUSES_PER_PAGE) {
            scan->found[scan->n_found] = cause;
        }
        scan->n_found++;
    }
    cause->words += words;
    cause->words_on_page += words;
    PyObject *op = place->reached ? place->owner.op : NULL;
    if (cause->on_page == NULL) {
        cause->on_page = op;
    }
    bool goes_on = op == cause->current.op && place->symbol == cause->current.symbol
                   && cause->current.address != 0;
    if (!goes_on) {
        keep_example(cause);
        cause->current = (cf_example){op, address, place->owner.offset, place->owner.part,
                                      place->symbol, 0};
    }
    cause->current.words += words;
}

/* -- pages --------------------------------------------------------------- */

/* Was OP one that a full collection writes? */
static bool
was_collected(page_scan *scan, PyObject *op, uintptr_t page)
{
    uintptr_t link = (uintptr_t)op - 2 * sizeof(void *);
    const uintptr_t *word;
    if (!scan->collected || !cf_owners_type(scan->places->owners, Py_TYPE(op))->gc
        || link < page) {
        return false;
    }
    word = (const uintptr_t *)(scan->explanation->before + (link - page));
    return *word != 0; /* 0: not tracked */
}

static int
weight_of(cf_field field)
{
    return field == CF_FIELD_GC ? 2 : field == CF_FIELD_COUNT ? 1 : 0;
}

/* Objects on a page that could have been written and be as they were. */
typedef struct {
    PyObject *op;
    cf_field field;
    size_t n;
} suspect;

#define MOST_SUSPECTS 16

static void
suspect_object(suspect *suspects, size_t *n, PyObject *op, cf_field field)
{
    for (size_t i = 0; i < *n; i++) {
        if (Py_TYPE(suspects[i].op) == Py_TYPE(op) && suspects[i].field == field) {
            suspects[i].n++;
            return;
        }
    }
    if (*n < MOST_SUSPECTS) {
        suspects[(*n)++] = (suspect){op, field, 1};
    }
}

/* A written page with the bytes it had: the kind of object that is there most
 * and could have been written. What the collector writes outweighs all, since it
 * is certain; code is blamed only if nothing on the page is counted. */
static void
explain_same(page_scan *scan, uintptr_t page)
{
    cf_owners *owners = scan->places->owners;
    uintptr_t end = page + cf_page_size();
    suspect suspects[MOST_SUSPECTS];
    const suspect *most = NULL;
    size_t n = 0;
    for (PyObject *op = cf_owners_first(owners, page, end);
         op != NULL && (uintptr_t)op + sizeof(PyObject) <= end;
         op = cf_owners_first(owners, (uintptr_t)op + 8, end)) {
        PyObject *then = (PyObject *)(scan->explanation->before + ((uintptr_t)op - page));
        if (Py_TYPE(then) != Py_TYPE(op)) {
            continue;
        }
        if (was_collected(scan, op, page)) {
            suspect_object(suspects, &n, op, CF_FIELD_GC);
        }
        else if (Py_IS_TYPE(op, &PyCode_Type)) {
            suspect_object(suspects, &n, op, CF_FIELD_CODE_CACHE);
        }
        else if (!cf_header_untouched(then)) {
            suspect_object(suspects, &n, op, CF_FIELD_COUNT);
        }
    }
    for (size_t i = 0; i < n; i++) {
        const suspect *s = &suspects[i];
        int more = most == NULL ? 1 : weight_of(s->field) - weight_of(most->field);
        if (more > 0 || (more == 0 && s->n > most->n)) {
            most = s;
        }
    }
    cf_place place = {.kind = CF_PLACE_OBJECT, .reached = true};
    if (most == NULL) {
        cf_places_find(scan->places, page, &place);
        count_word(scan, find_cause(scan->explanation, CF_SAME_BYTES, &place, CF_FIELD_NONE),
                   &place, page, 0);
        return;
    }
    place.owner = (cf_owner){most->op, cf_owners_type(owners, Py_TYPE(most->op)),
                             CF_PART_BODY, 0};
    count_word(scan, find_cause(scan->explanation, CF_SAME_BYTES, &place, most->field), &place,
               (uintptr_t)most->op, 0);
}

static void
explain_changed(page_scan *scan, uintptr_t page)
{
    const uint64_t *before = (const uint64_t *)scan->explanation->before;
    const uint64_t *after = (const uint64_t *)scan->explanation->after;
    size_t n = cf_page_size() / sizeof(uint64_t);
    for (size_t i = 0; i < n; i++) {
        if (before[i] == after[i]) {
            continue;
        }
        uintptr_t address = page + i * sizeof(uint64_t);
        cf_place place;
        cf_places_find(scan->places, address, &place);
        cf_field field = place.kind == CF_PLACE_OBJECT
                             ? cf_field_of(&place.owner)
                             : CF_FIELD_NONE;
        count_word(scan, find_cause(scan->explanation, CF_CHANGED, &place, field), &place,
                   address, 1);
    }
}

static cf_rank
rank_of(const cf_cause *cause)
{
    if (cause->change == CF_UNREADABLE) {
        return CF_RANK_UNKNOWN;
    }
    switch (cause->place) {
    case CF_PLACE_OBJECT:
        return CF_RANK_OBJECT;
    case CF_PLACE_INTERPRETER:
    case CF_PLACE_FRAMES:
    case CF_PLACE_STACK:
    case CF_PLACE_LIBRARY:
        return CF_RANK_SYSTEM;
    case CF_PLACE_UNKNOWN:
        return CF_RANK_UNKNOWN;
    default:
        return CF_RANK_ALLOCATOR;
    }
}

/* The page is over: count it once by rank; its main cause is the one with the
 * most words, known ones first. */
static uint32_t
conclude(page_scan *scan)
{
    cf_explanation *explanation = scan->explanation;
    size_t n = scan->n_found < CAUSES_PER_PAGE ? scan->n_found : CAUSES_PER_PAGE;
    cf_cause *main_cause = NULL;
    cf_rank best = CF_RANK_UNKNOWN;
    for (size_t i = 0; i < n; i++) {
        cf_cause *cause = scan->found[i];
        cf_rank rank = rank_of(cause);
        best = rank < best ? rank : best;
        if (main_cause == NULL
            || (rank_of(main_cause) == CF_RANK_UNKNOWN && rank != CF_RANK_UNKNOWN)
            || (rank != CF_RANK_UNKNOWN
                && cause->words_on_page > main_cause->words_on_page)) {
            main_cause = cause;
        }
    }
    if (scan->n_found == 1) {
        main_cause->alone++;
    }
    explanation->ranks[best]++;
    return (uint32_t)(main_cause - explanation->causes);
}

void
cf_explain(cf_explanation *explanation, cf_places *places, int memory,
           bool collected, const uintptr_t *pages, size_t n,
           uint32_t *main_causes, PyObject **main_owners)
{
    page_scan scan = {.explanation = explanation, .places = places,
                      .collected = collected};
    cf_snapshot worker = {.fd = memory};
    cf_snapshot witness = {.fd = places->memory.fd};
    size_t size = cf_page_size();
    cf_places_rewind(places);
    for (size_t i = 0; i < n; i++) {
        scan.page = i + 1;
        scan.n_found = 0;
        if (cf_snapshot_read(&worker, pages[i], explanation->after, size) < 0
            || cf_snapshot_read(&witness, pages[i], explanation->before, size) < 0) {
            cf_place nowhere = {.kind = CF_PLACE_UNKNOWN};
            count_word(&scan,
                       find_cause(explanation, CF_UNREADABLE, &nowhere, CF_FIELD_NONE),
                       &nowhere, pages[i], 0);
        }
        else {
            explain_changed(&scan, pages[i]);
            if (scan.n_found == 0) {
                explain_same(&scan, pages[i]);
            }
        }
        main_causes[i] = conclude(&scan);
        main_owners[i] = explanation->causes[main_causes[i]].on_page;
    }
    for (size_t i = 0; i < explanation->n_causes; i++) {
        keep_example(&explanation->causes[i]);
    }
}

/* -- paths --------------------------------------------------------------- */

void
cf_explain_positions(const cf_owners *owners, PyObject *const *targets, size_t n,
                     size_t *positions)
{
    /* A filter of 64 Ki bits spares nearly all comparisons. */
    uint64_t filter[1024] = {0};
    for (size_t i = 0; i < n; i++) {
        uintptr_t bit = (uintptr_t)targets[i] >> 4 & 0xFFFF;
        positions[i] = SIZE_MAX;
        filter[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
    for (size_t at = 0; at < owners->n; at++) {
        uintptr_t bit = (uintptr_t)owners->objects[at] >> 4 & 0xFFFF;
        if ((filter[bit / 64] >> (bit % 64) & 1) == 0) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            if (targets[i] == owners->objects[at]) {
                positions[i] = at;
            }
        }
    }
}
