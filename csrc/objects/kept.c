/* kept.c - what freezes have frozen, until the end of the process.
 *
 *   bits    ... 0 0 1 0 0 1 0 ...       one for every 8 bytes (objset.c): a frozen object,
 *                                       and no plain one
 *
 * The end of a process needs it: what only a frozen object holds must be found, to die as
 * ever (exit/finish.c). They are the bits that the walk has set anyway, without those of
 * objects that it passed over.
 *
 *   K1  an address with a bit is readable for ever: what is frozen is never freed.
 */
#include "objects/kept.h"

#include <string.h>

static cf_objset kept;
static cf_range *kept_ranges;
static size_t kept_ranges_size;

static void
add(void *op, void *set)
{
    (void)cf_objset_add(set, op);
}

void
cf_kept_take(cf_plan *plan)
{
    for (size_t i = 0; i < plan->left.used; i++) {
        PyObject *op = (PyObject *)plan->left.words[i];
        if (!cf_header_done(op)) { /* else a weak reference, taken in the end */
            cf_objset_remove(&plan->seen, op);
        }
    }
    cf_objset_visit(&kept, add, &plan->seen);
    cf_objset_clear(&kept);
    cf_mem_unmap(kept_ranges, kept_ranges_size);
    kept = plan->seen;
    kept_ranges = plan->ranges;
    kept_ranges_size = plan->ranges_capacity * sizeof(cf_range);
    memset(&plan->seen, 0, sizeof(plan->seen));
    plan->ranges = NULL;
}

void
cf_kept_visit(void (*visit)(void *, void *), void *arg)
{
    cf_objset_visit(&kept, visit, arg);
}
