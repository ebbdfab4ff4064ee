/* heir.h - an object that dies in the place of the frozen ones. */
#ifndef CF_HEIR_H
#define CF_HEIR_H

#include "exit/take_out.h"

/* Once, before anything is frozen. Returns 0, or -1 with an exception. */
int cf_heir_prepare(void);

/* Make the heir of ESTATE: garbage, for the next collection to find. Without memory there
 * is none. No exception is set. */
void cf_heir_make(const cf_estate *estate);

#endif
