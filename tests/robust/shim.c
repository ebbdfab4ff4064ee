/* shim.c - lets the n-th call of some C library functions fail, for tests of error paths.
 *
 *   interpreter, extension modules                       the C library
 *   ------------------------------                       -------------
 *   malloc(64)  --->  this file (LD_PRELOAD)  --------->  __libc_malloc
 *                     armed, and it is call n: ENOMEM
 *
 *   state    one shared page: hits, kind and errno of the first one
 *            private: armed kinds, the countdown; a forked child inherits both as they are at the
 *            fork, so each process has a call n of its own
 *
 * fault_arm(kinds, n, forever, low, high): n counts from 1. With FOREVER all calls from the n-th
 * on fail. LOW and HIGH, if not 0, are a range of code: only calls from there count, so that a
 * test can spare the interpreter and hit an extension module alone.
 *
 * Only for tests. Uses glibc's __libc_malloc, because dlsym itself allocates; where that is
 * missing the file does not link and the tests are skipped.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The names in tests/robust/cases_faults.py stand in this order. */
enum { MALLOC, MMAP, FORK, PIPE, OPEN, READ, MEMFD, FCNTL, SYSCALL, MPROTECT, IOCTL, KINDS };

struct shared {
    long hits;
    long kind;
    long calls[KINDS];
};

static struct shared *shared;
static unsigned armed;
static long countdown;
static int forever;
static unsigned paused; /* kinds that fault_pause() has taken out */
static uintptr_t low, high;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

__attribute__((visibility("default"))) int
fault_init(void)
{
    if (shared == NULL) {
        void *page = (void *)syscall(SYS_mmap, NULL, sizeof(struct shared),
                                     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            return -1;
        }
        shared = page;
    }
    return 0;
}

__attribute__((visibility("default"))) void
fault_arm(unsigned kinds, long n, int all_after, uintptr_t code_low, uintptr_t code_high)
{
    shared->hits = 0;
    shared->kind = -1;
    for (int i = 0; i < KINDS; i++) {
        shared->calls[i] = 0;
    }
    countdown = n;
    forever = all_after;
    low = code_low;
    high = code_high;
    armed = kinds;
    paused = 0;
}

__attribute__((visibility("default"))) void
fault_disarm(void)
{
    armed = 0;
    paused = 0;
}

/* Let calls through for a while, as often as these two are called. */
__attribute__((visibility("default"))) void
fault_pause(void)
{
    paused |= armed;
    armed = 0;
}

__attribute__((visibility("default"))) void
fault_resume(void)
{
    armed |= paused;
    paused = 0;
}

__attribute__((visibility("default"))) long
fault_hits(void)
{
    return shared->hits;
}

__attribute__((visibility("default"))) long
fault_kind(void)
{
    return shared->kind;
}

__attribute__((visibility("default"))) long
fault_calls(int kind)
{
    return shared->calls[kind];
}

static int
must_fail(int kind, void *caller)
{
    if ((armed & 1u << kind) == 0) {
        return 0;
    }
    if (high != 0 && ((uintptr_t)caller < low || (uintptr_t)caller >= high)) {
        return 0;
    }
    __atomic_fetch_add(&shared->calls[kind], 1, __ATOMIC_RELAXED);
    if (countdown > 1) {
        countdown--;
        return 0;
    }
    if (countdown < 1 && !forever) {
        return 0;
    }
    countdown = 0;
    if (__atomic_fetch_add(&shared->hits, 1, __ATOMIC_RELAXED) == 0) {
        shared->kind = kind;
    }
    return 1;
}

#define FAILS(kind, error, result)                          \
    if (must_fail(kind, __builtin_return_address(0))) {     \
        errno = error;                                      \
        return result;                                      \
    }

/* The next definition of the function; looked up at first use, not under malloc. */
#define NEXT(function)                                      \
    static __typeof__(function) *next;                      \
    if (next == NULL) {                                     \
        unsigned saved = armed;                             \
        armed = 0;                                          \
        *(void **)&next = dlsym(RTLD_NEXT, #function);      \
        armed = saved;                                      \
    }

/* ---- memory ------------------------------------------------------------------ */

void *
malloc(size_t size)
{
    FAILS(MALLOC, ENOMEM, NULL)
    return __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
    FAILS(MALLOC, ENOMEM, NULL)
    return __libc_calloc(n, size);
}

void *
realloc(void *block, size_t size)
{
    FAILS(MALLOC, ENOMEM, NULL)
    return __libc_realloc(block, size);
}

int
posix_memalign(void **block, size_t alignment, size_t size)
{
    if (must_fail(MALLOC, __builtin_return_address(0))) {
        return ENOMEM;
    }
    void *found = __libc_memalign(alignment, size);
    if (found == NULL) {
        return ENOMEM;
    }
    *block = found;
    return 0;
}

void *
mmap(void *place, size_t size, int protection, int flags, int fd, off_t offset)
{
    FAILS(MMAP, ENOMEM, MAP_FAILED)
    return (void *)syscall(SYS_mmap, place, size, protection, flags, fd, offset);
}

void *
mmap64(void *place, size_t size, int protection, int flags, int fd, off_t offset)
{
    FAILS(MMAP, ENOMEM, MAP_FAILED)
    return (void *)syscall(SYS_mmap, place, size, protection, flags, fd, offset);
}

int
mprotect(void *place, size_t size, int protection)
{
    FAILS(MPROTECT, ENOMEM, -1)
    NEXT(mprotect)
    return next(place, size, protection);
}

int
memfd_create(const char *name, unsigned flags)
{
    FAILS(MEMFD, EMFILE, -1)
    NEXT(memfd_create)
    return next(name, flags);
}

/* ---- processes --------------------------------------------------------------- */

pid_t
fork(void)
{
    FAILS(FORK, EAGAIN, -1)
    NEXT(fork)
    return next();
}

extern int clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

int
clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
    /* A thread's further arguments are not passed on; pthread_create does not come here. */
    FAILS(FORK, EAGAIN, -1)
    NEXT(clone)
    return next(function, stack, flags, argument);
}

/* ---- descriptors ------------------------------------------------------------- */

int
pipe(int ends[2])
{
    FAILS(PIPE, EMFILE, -1)
    NEXT(pipe)
    return next(ends);
}

int
pipe2(int ends[2], int flags)
{
    FAILS(PIPE, EMFILE, -1)
    NEXT(pipe2)
    return next(ends, flags);
}

int
socketpair(int domain, int type, int protocol, int ends[2])
{
    FAILS(PIPE, EMFILE, -1)
    NEXT(socketpair)
    return next(domain, type, protocol, ends);
}

#define MODE_OF_OPEN                                                    \
    mode_t mode = 0;                                                    \
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {   \
        va_list arguments;                                              \
        va_start(arguments, flags);                                     \
        mode = va_arg(arguments, mode_t);                               \
        va_end(arguments);                                              \
    }

int
open(const char *path, int flags, ...)
{
    MODE_OF_OPEN
    FAILS(OPEN, EMFILE, -1)
    NEXT(open)
    return next(path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
    MODE_OF_OPEN
    FAILS(OPEN, EMFILE, -1)
    NEXT(open64)
    return next(path, flags, mode);
}

int
openat(int folder, const char *path, int flags, ...)
{
    MODE_OF_OPEN
    FAILS(OPEN, EMFILE, -1)
    NEXT(openat)
    return next(folder, path, flags, mode);
}

/* glibc has both names, and a program compiled for large files calls the second. */
#define DEFINE_FCNTL(name)                                                                     \
    int name(int fd, int command, ...)                                                         \
    {                                                                                          \
        va_list arguments;                                                                     \
        va_start(arguments, command);                                                          \
        void *argument = va_arg(arguments, void *);                                            \
        va_end(arguments);                                                                     \
        if (command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_ADD_SEALS) {      \
            FAILS(FCNTL, EMFILE, -1)                                                           \
        }                                                                                      \
        NEXT(name)                                                                             \
        return next(fd, command, argument);                                                    \
    }

DEFINE_FCNTL(fcntl)
DEFINE_FCNTL(fcntl64)

int
ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    FAILS(IOCTL, EINVAL, -1)
    NEXT(ioctl)
    return next(fd, request, argument);
}

/* ---- reading ----------------------------------------------------------------- */

ssize_t
read(int fd, void *buffer, size_t size)
{
    FAILS(READ, EIO, -1)
    NEXT(read)
    return next(fd, buffer, size);
}

ssize_t
pread(int fd, void *buffer, size_t size, off_t offset)
{
    FAILS(READ, EIO, -1)
    NEXT(pread)
    return next(fd, buffer, size, offset);
}

ssize_t
pread64(int fd, void *buffer, size_t size, off_t offset)
{
    FAILS(READ, EIO, -1)
    NEXT(pread64)
    return next(fd, buffer, size, offset);
}

ssize_t
recv(int fd, void *buffer, size_t size, int flags)
{
    FAILS(READ, EIO, -1)
    NEXT(recv)
    return next(fd, buffer, size, flags);
}

/* ---- what has no wrapper: perf_event_open, pidfd_open ------------------------- */

long
syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    long a = va_arg(arguments, long), b = va_arg(arguments, long), c = va_arg(arguments, long);
    long d = va_arg(arguments, long), e = va_arg(arguments, long), f = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_perf_event_open || number == SYS_userfaultfd
#ifdef SYS_pidfd_open
        || number == SYS_pidfd_open
#endif
    ) {
        FAILS(SYSCALL, ENOSYS, -1)
    }
    NEXT(syscall)
    return next(number, a, b, c, d, e, f);
}
