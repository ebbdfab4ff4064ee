/* record.c - what a trap has seen, in memory that a parent can read too.
 *
 *   [ figures | hashes | lines | codes ............ | write 0 | write 1 | ... ]
 *                                  ^                    |
 *                                  `---- frames: position of the code, line
 *
 * One mapping, address space only: what is not used costs nothing. It is
 * written in signal handlers, so nothing here allocates, and there is no lock:
 * trap.c lets one thread in at a time.
 *
 * File and function names are copied when a function is met first. Looking
 * them up afterwards would be cheaper in the handler and wrong: code objects
 * that a worker makes are unknown to its parent, and may be freed by then.
 */
#define _GNU_SOURCE
#include "trap/record.h"

#include <string.h>
#include <sys/mman.h>

size_t
cf_trap_buffer_size(size_t n)
{
    return sizeof(cf_trap_buffer) + n * sizeof(cf_trap_write);
}

cf_trap_buffer *
cf_trap_buffer_new(size_t n, bool shared)
{
    int flags = MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE);
    void *area = mmap(NULL, cf_trap_buffer_size(n), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (area == MAP_FAILED) {
        return NULL;
    }
    cf_trap_buffer *buffer = area;
    buffer->room = n;
    return buffer;
}

void
cf_trap_buffer_free(cf_trap_buffer *buffer)
{
    if (buffer != NULL) {
        munmap(buffer, cf_trap_buffer_size(buffer->room));
    }
}

void
cf_trap_buffer_reset(cf_trap_buffer *buffer)
{
    uint64_t room = buffer->room;
    memset(buffer, 0, offsetof(cf_trap_buffer, codes));
    buffer->room = room;
}

cf_trap_code *
cf_trap_buffer_code(cf_trap_buffer *buffer, const uint64_t identity[3], bool *is_new)
{
    uint32_t *first = &buffer->hashes[(identity[0] * 0x9E3779B97F4A7C15u >> 40) % CF_TRAP_CODES];
    *is_new = false;
    for (uint32_t at = *first; at != 0; at = buffer->codes[at - 1].older) {
        cf_trap_code *code = &buffer->codes[at - 1];
        if (memcmp(code->identity, identity, sizeof(code->identity)) == 0) {
            return code;
        }
    }
    if (buffer->n_codes == CF_TRAP_CODES) {
        return NULL;
    }
    cf_trap_code *code = &buffer->codes[buffer->n_codes++];
    memcpy(code->identity, identity, sizeof(code->identity));
    code->file_size = code->name_size = 0;
    code->older = *first;
    *first = (uint32_t)buffer->n_codes;
    *is_new = true;
    return code;
}

static size_t
line_slot(uint32_t code, int32_t position)
{
    return (code * 0x9E3779B1u + (uint32_t)position * 0x85EBCA6Bu) >> 16 & (CF_TRAP_LINES - 1);
}

int32_t
cf_trap_buffer_line(const cf_trap_buffer *buffer, uint32_t code, int32_t position)
{
    size_t i = line_slot(code, position);
    return buffer->lines[i].code == code + 1 && buffer->lines[i].position == position
               ? buffer->lines[i].line
               : -1;
}

void
cf_trap_buffer_keep_line(cf_trap_buffer *buffer, uint32_t code, int32_t position, int32_t line)
{
    size_t i = line_slot(code, position);
    buffer->lines[i].code = code + 1;
    buffer->lines[i].position = position;
    buffer->lines[i].line = line;
}
