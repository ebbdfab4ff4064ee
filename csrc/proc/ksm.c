/* ksm.c - has the kernel merged pages of a process with equal ones?
 *
 *   before   worker ----> [ a copy ]      bit 56: mapped by the worker only
 *            stranger --> [ equal  ]
 *   after    worker --.
 *                      >  [ merged ]      not exclusive: the copy is hidden
 *            stranger -'
 *
 * Merging (KSM) undoes copies behind everybody's back, so nothing can be
 * said about the pages of a process that has any merged page. A file of each
 * process counts them; its name and form depend on the kernel:
 *
 *   ksm_merging_pages   Linux 5.19   one number
 *   ksm_stat            Linux 6.4    "ksm_merging_pages 3", and from 6.6 on
 *                                    "ksm_zero_pages 2"
 */
#define _GNU_SOURCE
#include "proc/ksm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
cf_ksm_open(cf_file *file, const char *pid)
{
    char path[64], text[512];
    /* ksm_stat also counts merged zero pages (Linux 6.6), but has the
     * count of merged pages only since 6.4. */
    snprintf(path, sizeof(path), "/proc/%.20s/ksm_stat", pid);
    cf_file_open(file, path);
    if (file->fd >= 0 && cf_read_file(file, text, sizeof(text)) > 0 &&
        strstr(text, "ksm_merging_pages") != NULL) {
        return;
    }
    cf_file_close(file);
    snprintf(path, sizeof(path), "/proc/%.20s/ksm_merging_pages", pid);
    cf_file_open(file, path);
}

static int64_t
labelled(const char *text, const char *label)
{
    const char *at = strstr(text, label);
    return at == NULL ? 0 : strtoll(at + strlen(label), NULL, 10);
}

int64_t
cf_ksm_merged(const cf_file *file)
{
    char text[512];
    if (cf_read_file(file, text, sizeof(text)) > 0) {
        if (text[0] >= '0' && text[0] <= '9') {
            return strtoll(text, NULL, 10);
        }
        return labelled(text, "ksm_merging_pages ") +
               labelled(text, "ksm_zero_pages ");
    }
    /* Older kernels and processes without permission: if nothing is merged
     * on the whole machine, then nothing of this process is. No such file:
     * the kernel cannot merge. */
    if (cf_read_path("/sys/kernel/mm/ksm/pages_sharing", text,
                     sizeof(text)) > 0) {
        return strtoll(text, NULL, 10) == 0 ? 0 : -1;
    }
    return 0;
}
