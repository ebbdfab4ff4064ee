# The audit: csrc/measure/witness.c, audit.c and inherited.c for Python. Included by _core.pyx.
from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, strerror
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap,
)
from posix.types cimport pid_t
from posix.unistd cimport write

import os


cdef extern from "measure/witness.h" nogil:
    ctypedef struct cf_witness:
        pid_t pid

    int cf_witness_start(cf_witness *witness)
    bint cf_witness_alive(const cf_witness *witness)
    void cf_witness_stop(cf_witness *witness)


cdef extern from "measure/inherited.h" nogil:
    int cf_inherited_pages(const cf_witness *witness, int64_t *pages)


cdef extern from "measure/record.h" nogil:
    enum:
        CF_AREA_ANON
        CF_AREA_HEAP
        CF_AREA_STACK
        CF_AREA_FILE
        CF_WHY_NO_PAGEMAP
        CF_WHY_NO_MAPS
        CF_WHY_NO_WITNESS_FILE
        CF_WHY_WITNESS_DIED
        CF_WHY_SWAP
        CF_WHY_KSM
        CF_WHY_CHILD
        CF_WHY_CHILD_UNKNOWN
        CF_WHY_OTHER_PROCESS
        CF_WHY_NO_MEMORY
        CF_WHY_FAILED
        CF_WHY_NO_RUSAGE
        CF_WHY_OTHER_PROC
        CF_WHY_NO_ROOM
        CF_METHOD_NONE
        CF_METHOD_BIT56
        CF_METHOD_PFN
        CF_RECORD_MAGIC

    ctypedef struct cf_pages:
        uintptr_t *addresses
        size_t count
        size_t room

    ctypedef struct cf_record:
        uint32_t magic
        uint32_t size
        uint32_t method
        uint32_t why
        int32_t error
        int32_t pid
        int32_t child
        int64_t copied
        int64_t frozen_copied
        int64_t fresh
        int64_t minor_faults
        int64_t major_faults
        int64_t by_area[4]
        uint64_t unknown_pages
        uint64_t scanned_bytes
        uint64_t scan_ns
        uint64_t page_size


cdef extern from "measure/audit.h" nogil:
    ctypedef struct cf_audit:
        pass

    void cf_audit_start(cf_audit *audit, cf_witness *witness)
    void cf_audit_look(cf_audit *audit, cf_witness *witness)
    void cf_audit_measure(cf_audit *audit, cf_record *record, cf_pages *found)
    void cf_audit_measure_before(cf_audit *audit, cf_record *record, cf_pages *found)
    void cf_audit_measure_since(cf_audit *audit, cf_record *record, const cf_pages *before, cf_pages *found)
    void cf_audit_stop(cf_audit *audit)


cdef extern from "proc/identity.h" nogil:
    uint64_t cf_process_id()
    bint cf_proc_is_ours()


RECORD_SIZE = sizeof(cf_record)
cf_process_id()  # here, so that a worker which asks later writes no page of its parent's


def process_id() -> int:
    """A number of this process that no ancestor and no descendant of it has.

    Unlike a pid: in PID namespaces of their own a parent and its child may both be process 1.
    """
    return cf_process_id()


def proc_is_ours() -> bool:
    """Is /proc/PID the process PID of this process's PID namespace?"""
    return cf_proc_is_ours()


cdef class Witness:
    """A paused child process that keeps every page of this moment alive.

    Fork it right before the workers: beside it, a page that a worker has for itself alone is a
    page that this worker copied, whoever else writes, unmaps or exits. While it lives, each first
    write of the parent copies a page too, so close it after the measuring.

    A page that the parent writes between the witness's fork and a worker's, and once more later, is
    counted as the worker's copy. A second Witness, forked right behind the last worker and closed
    with the first, holds these pages too: then nothing counts that the parent writes afterwards.

    The child never runs: it ends with `close()`, or when the thread that made it ends.

    Raises OSError when no process can be made. A parent whose /proc files may not be opened gets
    its Witness all the same; the workers' records then say "unknown" and why.
    """

    cdef cf_witness witness
    cdef readonly int pid
    """Process id of the child (stays readable after close)."""

    def __cinit__(self) -> None:
        if cf_witness_start(&self.witness) < 0:
            raise OSError(errno, "cannot fork the witness process: " + _reason_text(errno))
        self.pid = self.witness.pid

    def __dealloc__(self) -> None:
        cf_witness_stop(&self.witness)

    def alive(self) -> bool:
        """Does the child still hold the pages? May be asked in a worker too."""
        return cf_witness_alive(&self.witness)

    def inherited_pages(self) -> int:
        """How many pages existed at the fork: the whole that a worker's copied pages are a part of.

        Memory that was written before; not pages of files (a copied page of a library's data is
        the one kind of copy that is not in here), and not memory that was only read (before
        Linux 6.7 the kernel does not tell it, and it is counted). For the parent, at any time
        before `close()`; reads the witness's page maps, some milliseconds for each GiB.

        Raises ValueError when the witness is closed, OSError when its files cannot be read or it
        has ended, MemoryError.
        """
        cdef int64_t pages = 0
        if self.witness.pid == 0:
            raise ValueError("the witness is closed")
        if cf_inherited_pages(&self.witness, &pages) < 0:
            if errno == ENOMEM:
                raise MemoryError("no room to count the inherited pages")
            raise OSError(errno, "cannot count the inherited pages: " + _reason_text(errno))
        return pages

    def close(self) -> None:
        """Kill and reap the child; in a worker, only forget it. May be called again."""
        cf_witness_stop(&self.witness)

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cowfreeze witness, process {self.pid}, {'alive' if self.alive() else 'ended'}>"


cdef class PageList:
    """Room in shared memory for the pages that one worker copies.

    Made before the fork, filled by the worker's measuring: first with what was copied or filled
    before its work began, then with what it has copied since. It is not scanned, and writing to
    it copies no page.

        words   [ n before | n since | collections | addresses before ... | addresses since ... ]

    `room` is how many addresses fit into each half; with `explained` False there is only the first
    half, which is all that counting needs. Only address space until it is used.
    """

    cdef uintptr_t *words
    cdef readonly size_t room
    cdef size_t size
    cdef size_t room_since

    def __cinit__(self, size_t room, bint explained=True):
        cdef void *area
        self.room = room
        self.room_since = room if explained else 0
        self.size = (3 + room + self.room_since) * sizeof(uintptr_t)
        area = mmap(NULL, self.size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if area == MAP_FAILED:
            raise MemoryError("no room for the addresses of the copied pages")
        self.words = <uintptr_t *>area

    def __dealloc__(self):
        if self.words != NULL:
            munmap(self.words, self.size)

    cdef void measure(self, cf_audit *audit, cf_record *record, bint since) noexcept:
        cdef cf_pages before, found
        before.addresses = self.words + 3
        before.room = self.room
        before.count = self.words[0]
        if not since:
            cf_audit_measure_before(audit, record, &before)
            self.words[0] = before.count
            return
        found.addresses = before.addresses + self.room
        found.room = self.room_since
        cf_audit_measure_since(audit, record, &before, &found)
        self.words[1] = found.count

    @property
    def collections(self) -> int:
        """How many full collections the worker's process has seen, as it says after measuring."""
        return self.words[2]

    @collections.setter
    def collections(self, size_t count):
        self.words[2] = count

    cdef size_t count(self) noexcept:
        """How many pages of the second half there is room for and so are noted."""
        return min(self.words[1], self.room_since)

    cdef const uintptr_t *copied(self) noexcept:
        return self.words + 3 + self.room


cdef class WorkerAudit:
    """A worker's measuring of itself. Create it first thing after the fork.

    It opens the worker's own /proc files while the worker still has the right to, makes the worker
    the reaper of its orphaned descendants (a live one blinds the measuring and has to be seen),
    and switches transparent huge pages off for the worker and its children: khugepaged copies
    shared pages without any write when it collapses a range.
    """

    cdef Witness witness
    cdef cf_audit audit

    def __cinit__(self, Witness witness not None) -> None:
        self.witness = witness
        cf_audit_start(&self.audit, &witness.witness)

    def __dealloc__(self) -> None:
        if self.witness is not None:
            cf_audit_stop(&self.audit)

    def measure_into(self, int fd, PageList pages=None, bint since=False) -> None:
        """Measure now and write one record of RECORD_SIZE bytes to `fd`.

        What the process did between two measurings is no difference of their figures: pages of
        the first that were given back meanwhile would cancel as many new ones. With `pages` the
        first notes what it finds there, and the second, with `since`, counts what is not in it,
        and notes the addresses of what was copied.

        Touches no Python object, so that it copies no page by itself but for some of the C stack.
        Raises OSError when the record cannot be written; what cannot be measured is no error, the
        record says so.
        """
        cdef cf_record record
        cdef ssize_t done
        if pages is None:
            cf_audit_measure(&self.audit, &record, NULL)
        else:
            pages.measure(&self.audit, &record, since)
        while True:
            done = write(fd, &record, sizeof(record))
            if done == <ssize_t>sizeof(record):
                return
            if done >= 0:
                raise OSError(f"only {done} of {RECORD_SIZE} bytes of the audit record were written")
            if errno != EINTR:
                raise OSError(errno, "cannot write the audit record: " + _reason_text(errno))


def decode_record(bytes data not None) -> dict:
    """The figures of one record, as a dict.

    copied_pages, frozen_copied_pages, new_pages, minor_faults, major_faults: int, or None when
    unknown. by_area: copied pages in "anon", "heap", "stack" and "file" mappings, int or None.
    unknown_pages: pages whose state could not be told (swapped). scanned_bytes, page_size: bytes.
    scan_seconds: how long the measuring took. method: "bit56+witness", "pfn+witness" or "none".
    pid: of the worker. reasons: one sentence for each thing that is unknown.

    Raises ValueError when `data` is not a record of this version.
    """
    cdef cf_record record
    if len(data) != sizeof(record):
        raise ValueError(f"an audit record has {RECORD_SIZE} bytes, not {len(data)}")
    memcpy(&record, <const char *>data, sizeof(record))
    if record.magic != CF_RECORD_MAGIC or record.size != sizeof(record):
        raise ValueError("these bytes are not an audit record")
    methods = {CF_METHOD_BIT56: "bit56+witness", CF_METHOD_PFN: "pfn+witness"}
    return {
        "copied_pages": _known(record.copied),
        "frozen_copied_pages": _known(record.frozen_copied),
        "new_pages": _known(record.fresh),
        "minor_faults": _known(record.minor_faults),
        "major_faults": _known(record.major_faults),
        "by_area": {
            "anon": _known(record.by_area[<int>CF_AREA_ANON]),
            "heap": _known(record.by_area[<int>CF_AREA_HEAP]),
            "stack": _known(record.by_area[<int>CF_AREA_STACK]),
            "file": _known(record.by_area[<int>CF_AREA_FILE]),
        },
        "unknown_pages": record.unknown_pages,
        "scanned_bytes": record.scanned_bytes,
        "scan_seconds": record.scan_ns / 1e9,
        "page_size": record.page_size,
        "method": methods.get(record.method, "none"),
        "pid": record.pid,
        "reasons": tuple(_reasons(&record)),
    }


def copied_addresses(Witness witness not None) -> list:
    """The addresses of the pages that this process has copied since the witness was forked.

    In ascending order, each the first byte of a page. For tests and explanations: allocates.
    May be called in a worker, and in the parent for what the parent wrote.

    Raises ValueError when the witness is closed, RuntimeError with the reasons when the pages
    cannot be told, MemoryError.
    """
    cdef cf_audit audit
    cdef cf_record record
    cdef cf_pages found
    cdef size_t size = 0, i
    cdef void *area
    if witness.witness.pid == 0:
        raise ValueError("the witness is closed")
    found.addresses = NULL
    found.room = 0
    cf_audit_look(&audit, &witness.witness)
    try:
        cf_audit_measure(&audit, &record, &found)
        while record.copied >= 0 and found.count > found.room:
            # The vector is written before the pages are counted, and given back if it is too
            # small; the slack is for the pages that this loop itself copies.
            if found.addresses != NULL:
                munmap(found.addresses, size)
            found.room = found.count + found.count // 8 + 4096
            size = found.room * sizeof(uintptr_t)
            area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            found.addresses = NULL
            if area == MAP_FAILED:
                raise MemoryError("no room for the addresses of the copied pages")
            found.addresses = <uintptr_t *>area
            cf_audit_measure(&audit, &record, &found)
        if record.copied < 0:
            reasons = " ".join(_reasons(&record))
            raise RuntimeError("the copied pages cannot be told: " + reasons)
        return [found.addresses[i] for i in range(found.count)]
    finally:
        cf_audit_stop(&audit)
        if found.addresses != NULL:
            munmap(found.addresses, size)


cdef object _known(int64_t figure):
    return None if figure < 0 else figure


cdef str _reason_text(int error):
    return strerror(error).decode("utf-8", "replace")


cdef str _sharer(int child):
    if child:
        return f"A child process of the worker (pid {child})"
    return "A process that was forked from the worker but does not stand below it (CLONE_PARENT)"


cdef list _reasons(const cf_record *record):
    """The words for a record's `why`: what is unknown, why, and what to do."""
    cdef uint32_t why = record.why
    error = _reason_text(record.error) if record.error else "it reads as empty"
    table = (
        (CF_WHY_NO_PAGEMAP,
         f"The worker cannot read its own /proc/self/pagemap ({error}): /proc is not mounted, or the "
         "process is not dumpable after a change of user. Create WorkerAudit before dropping "
         "privileges, or call prctl(PR_SET_DUMPABLE, 1)."),
        (CF_WHY_NO_MAPS,
         f"The worker cannot read its own /proc/self/maps ({error}): mount /proc."),
        (CF_WHY_NO_WITNESS_FILE,
         f"The witness's files in /proc cannot be read ({error}): the parent may not look at its own "
         "child, or a hidden or missing /proc. Fork the witness before dropping privileges, or "
         "make the parent dumpable."),
        (CF_WHY_WITNESS_DIED,
         "The witness process ended before the measuring was over, so pages that others gave up "
         "look copied. Keep the Witness open and the thread that made it alive until the workers "
         "have measured."),
        (CF_WHY_SWAP,
         f"{record.unknown_pages} pages are swapped out (or the kernel was moving them all the time), "
         "and such a page does not tell who owns it. Measure with enough memory, or with swap "
         "switched off."),
        (CF_WHY_KSM,
         "The kernel has merged pages of this process with equal ones (KSM), which hides copies. "
         "Switch merging off: prctl(PR_SET_MEMORY_MERGE, 0) before the fork."),
        (CF_WHY_CHILD,
         f"{_sharer(record.child)} is alive and still has the worker's "
         "memory, or may not be looked at, so the worker's copies look shared. Let it end or call "
         "exec before measuring, or measure as root."),
        (CF_WHY_CHILD_UNKNOWN,
         f"It cannot be told whether a descendant of the worker (pid {record.child or 'unknown'}) "
         "still has the worker's memory. Let the worker's children end before measuring, or "
         "measure as root."),
        (CF_WHY_OTHER_PROCESS,
         "The measuring ran in another process than the one that created the WorkerAudit. Measure "
         "in the worker itself, not in a child of it."),
        (CF_WHY_NO_MEMORY,
         "There was no memory to measure with (under 1 MiB is needed). Raise the worker's memory "
         "limit."),
        (CF_WHY_FAILED,
         f"Reading the page maps failed half-way ({error}). Measure again."),
        (CF_WHY_NO_RUSAGE,
         "The page faults were not counted from the start of this process."),
        (CF_WHY_OTHER_PROC,
         "/proc was mounted in another PID namespace, so its numbers name other processes than this "
         "one's. Mount a /proc of this namespace (unshare --mount-proc)."),
        (CF_WHY_NO_ROOM,
         "More pages were written between the fork and the target than there was room to note, so "
         "nothing tells which ones the target wrote. Write less in functions that run at the fork."),
    )
    return [sentence for bit, sentence in table if why & <uint32_t>bit]


def fork_into(list forked) -> None:
    """os.fork(), whose result is appended to FORKED before Python code can run, a signal's handler least of all.

    Raises:
        OSError: nothing was forked.
    """
    forked.append(os.fork())
