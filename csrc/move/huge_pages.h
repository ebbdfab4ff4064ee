/* huge_pages.h - put memory of frozen objects on huge pages.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_HUGE_PAGES_H
#define CF_HUGE_PAGES_H

#include "move/frozen_spans.h"

#include <stdbool.h>

/* Could cf_collapse() succeed in this process? Collapses a scratch page to see.
 * True; false: MOVED says why not. */
bool cf_collapse_check(cf_moved *moved);

/* Put what holds frozen objects on huge pages, before the first fork. Nothing is
 * raised: MOVED says what happened. What the kernel does not take stays as it is. */
void cf_collapse(cf_moved *moved);

#endif
