/* guards.c - preloaded: a malloc like hardened_malloc's. Large blocks begin on a page of their own, behind
 * one that cannot be read; small ones come from glibc.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_calloc(size_t, size_t);
extern size_t malloc_usable_size(void *);

#define LARGE 16384
#define PAGE 4096
#define SLOTS 65536

static struct {
    void *block;
    size_t size;
} large[SLOTS];
static int taken;

static size_t
pages(size_t size)
{
    return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static size_t
slot_of(void *block, void *wanted)
{
    size_t i = ((uintptr_t)block >> 12) % SLOTS;
    for (size_t k = 0; k < 256; k++, i = (i + 1) % SLOTS) {
        if (large[i].block == wanted) {
            return i;
        }
    }
    return SLOTS;
}

static size_t
find(void *block)
{
    return ((uintptr_t)block & (PAGE - 1)) != 0 ? SLOTS : slot_of(block, block);
}

static void *
guarded(size_t size)
{
    char *block = mmap(NULL, pages(size) + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        return NULL;
    }
    mprotect(block, PAGE, PROT_NONE);
    mprotect(block + PAGE + pages(size), PAGE, PROT_NONE);
    block += PAGE;
    while (__sync_lock_test_and_set(&taken, 1)) {
    }
    size_t i = slot_of(block, NULL);
    if (i < SLOTS) {
        large[i].block = block;
        large[i].size = size;
    }
    __sync_lock_release(&taken);
    return block;
}

void *
malloc(size_t size)
{
    return size >= LARGE ? guarded(size) : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
    return n * size >= LARGE ? guarded(n * size) : __libc_calloc(n, size);
}

void
free(void *block)
{
    size_t i = block == NULL ? SLOTS : find(block);
    if (i == SLOTS) {
        __libc_free(block);
        return;
    }
    size_t size = pages(large[i].size);
    large[i].block = NULL;
    munmap((char *)block - PAGE, size + 2 * PAGE);
}

void *
realloc(void *block, size_t size)
{
    if (block == NULL) {
        return malloc(size);
    }
    size_t i = find(block);
    if (i == SLOTS && size < LARGE) {
        return __libc_realloc(block, size);
    }
    size_t before = i == SLOTS ? malloc_usable_size(block) : large[i].size;
    void *moved = malloc(size);
    if (moved != NULL) {
        memcpy(moved, block, before < size ? before : size);
        free(block);
    }
    return moved;
}
