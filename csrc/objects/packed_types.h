/* packed_types.h - the read-only containers of packed data, as types. */
#ifndef CF_PACKED_TYPES_H
#define CF_PACKED_TYPES_H

#include "cpython/compat.h"

/* Layout, slots and subclass flag of dict and list, without them in the MRO;
 * their __class__ says dict, list, set and frozenset. The sets are subtypes of
 * frozenset. Usable after cf_packtypes_init(). */
extern PyTypeObject cf_packed_dict_type;
extern PyTypeObject cf_packed_list_type;
extern PyTypeObject cf_packed_set_type;
extern PyTypeObject cf_packed_frozenset_type;

/* Is TYPE one whose tp_traverse tells its items, although it is not the collector's? */
bool cf_packtypes_traverses(PyTypeObject *type);

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_packtypes_init(void);

#endif
