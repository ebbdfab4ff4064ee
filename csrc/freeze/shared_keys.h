/* shared_keys.h - counters in the key tables that instances of a class share. */
#ifndef CF_SHARED_KEYS_H
#define CF_SHARED_KEYS_H

#include "cpython/compat.h"
#include "base/stack.h"

/* Try the counters out on a throw-away class. Once, at import, after
 * cf_layout_init. Returns 0, or -1 with an exception; that the counters behave
 * otherwise is no error. */
int cf_keys_init(void);

/* Do the counters behave as expected? */
bool cf_keys_known(void);

/* Stop the counters of the frozen ones among TYPES that have had instances with
 * attributes. Returns of how many classes. Cannot fail; does nothing where the
 * counters are not known. */
size_t cf_keys_stop(const cf_stack *types);

#endif
