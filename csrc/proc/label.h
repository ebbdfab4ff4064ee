/* label.h - what /proc/PID/maps shows of this process, for who looks from outside. */
#ifndef CF_LABEL_H
#define CF_LABEL_H

/* Show TEXT (at most 200 characters, no newline) instead of what was shown before. Forked processes
 * inherit it. Returns 0, or -1 with errno; then what was shown stays. */
int cf_label_set(const char *text);

#endif
