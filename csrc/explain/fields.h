/* fields.h - which field of an object is this word? */
#ifndef CF_FIELDS_H
#define CF_FIELDS_H

#include "explain/object_index.h"

typedef enum {
    CF_FIELD_NONE,
    CF_FIELD_COUNT,
    CF_FIELD_TYPE,
    CF_FIELD_GC,
    CF_FIELD_DICT_POINTER,
    CF_FIELD_HASH,
    CF_FIELD_STR_STATE,
    CF_FIELD_STR_UTF8,
    CF_FIELD_LIST,
    CF_FIELD_DICT,
    CF_FIELD_KEYS_HEADER,
    CF_FIELD_SET,
    CF_FIELD_VALUES,
    CF_FIELD_SHARED_KEYS,
    CF_FIELD_TYPE_VERSION,
    CF_FIELD_TYPE_CACHE,
    CF_FIELD_TYPE_OTHER,
    CF_FIELD_CODE_CACHE,
    CF_FIELD_CODE_OTHER,
    CF_FIELD_FUNCTION_VERSION,
    CF_FIELD_FUNCTION_OTHER,
    CF_FIELD_FRAME,
    CF_FIELD_BUFFER,
    CF_FIELD_CONTENTS,
    CF_N_FIELDS
} cf_field;

/* The field that OWNER describes. Reads types only. */
cf_field cf_field_of(const cf_owner *owner);

/* Its name, as reports print it. */
const char *cf_field_name(cf_field field);

#endif
