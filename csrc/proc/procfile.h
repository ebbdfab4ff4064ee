/* procfile.h - reading files of /proc without malloc.
 *
 * No Python.h, no allocation, no locks: safe after a fork and in a worker
 * whose heap must not be written. Not for signal handlers (errno changes).
 */
#ifndef CF_PROCFILE_H
#define CF_PROCFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A file of /proc that stays open on a high, close-on-exec descriptor.
 * Daemons close "all descriptors", and the number may then be given to
 * another file, so the identity is kept beside the number. */
typedef struct {
    int fd;        /* -1: not open */
    int error;     /* the errno that says why not, else 0 */
    uint64_t dev;  /* st_dev and st_ino of what was opened */
    uint64_t ino;
} cf_file;

/* Open PATH for reading; on failure fd is -1 and error says why. */
void cf_file_open(cf_file *file, const char *path);

/* Is the descriptor still the file that was opened? Writes nothing. */
bool cf_file_intact(const cf_file *file);

/* Close it, if it is still ours; a number that now belongs to somebody else
 * is only forgotten. May be called twice. */
void cf_file_close(cf_file *file);

/* Read PATH into BUFFER (SIZE bytes, always NUL-terminated). Returns the
 * length, at most SIZE - 1, or -1 with errno set. */
ssize_t cf_read_path(const char *path, char *buffer, size_t size);

/* Read the start of FILE the same way, without moving its offset. */
ssize_t cf_read_file(const cf_file *file, char *buffer, size_t size);

/* The FIELD-th field, counted as in proc(5), from 3 on, of LINE, the text of
 * a /proc/PID/stat; NULL if there are fewer. The rest of the line follows. */
const char *cf_stat_field(const char *line, int field);

/* How many threads this process has, Python's or not; -1: unknown. */
int cf_thread_count(void);

/* Is this the only thread of the process? Also known where no file can be opened. */
bool cf_is_only_thread(void);

#endif
