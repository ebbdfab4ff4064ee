"""Binding of freeze.h: freeze, is_frozen."""

from libc.stdint cimport uint8_t
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free


cdef extern from "base/mem.h":
    void cf_mem_fail_at(long n)
    size_t cf_mem_mapped()


cdef extern from "base/pageset.h":
    ctypedef struct cf_pageset:
        pass
    cf_pageset *cf_frozen_pages
    bint cf_pageset_contains(const cf_pageset *pages, size_t address)
    size_t cf_pageset_count(const cf_pageset *pages)
    size_t cf_page_size()


cdef extern from "objects/packed_memory.h":
    bint cf_packed_contains(size_t address)
    size_t cf_packed_bytes()


cdef extern from "cpython/compat.h":
    void *PyInterpreterState_Get()
    void *PyInterpreterState_Main()


cdef extern from "objects/type_info.h":
    ctypedef enum cf_decision:
        pass
    const char *cf_decision_name(cf_decision decision)


cdef extern from "cpython/layout.h":
    int cf_layout_add_hidden(object sample, PyObject **values, int n) except -1
    int cf_layout_add_ndarray(object array, object view, object dtype, object marker)
    void cf_layout_add_records(object records, object numbers)
    void cf_layout_set_datetime(object datetime, object date, object time, object timedelta, object timezone)
    void cf_layout_set_decimal(object decimal)
    void cf_layout_set_zoneinfo(object zoneinfo)


cdef extern from "cpython/live_frames.h":
    bint cf_live_frames_set_greenlet(object type)


cdef extern from "freeze/running_code.h":
    ctypedef struct cf_opcodes:
        bint known
        uint8_t load_const
        uint8_t load_const_mortal
        uint8_t load_const_immortal
        uint8_t extended_arg
        uint8_t base[256]
        uint8_t caches[256]
        bint opaque[256]
    cf_opcodes cf_opcode


cdef extern from "freeze/relocate_code.h":
    void cf_relocate_set_opcodes(int resume, int resume_check)
    size_t cf_relocate_mark()
    void cf_relocate_forget()


cdef extern from *:
    """
    /* Cython's own typedef of bool would be the C++ one. */
    enum { cf_n_decisions_value = CF_N_DECISIONS };
    """
    enum:
        cf_n_decisions_value


cdef extern from "proc/label.h":
    int cf_label_set(const char *text)


cdef extern from "freeze/freeze.h":
    bint CF_HAS_IMMORTAL
    bint CF_HAS_LOAD_CONST_MORTAL
    bint CF_TUPLE_CACHES_HASH
    bint CF_HAS_RELOCATION
    bint CF_HAS_RESUME_CHECK
    ctypedef struct PyObject:
        pass
    ctypedef struct PyTypeObject:
        const char *tp_name
    ctypedef struct cf_request:
        PyObject *roots
        PyTypeObject **skip
        PyObject *own[2]
        PyObject *files
        bint collect
        bint gc_freeze
        bint seal
        bint dry_run
        bint relocate
        bint instance_dicts
        bint takes_over
        bint utf8
    ctypedef enum cf_refusal:
        CF_REFUSED_COLLECTOR
        CF_REFUSED_INTERPRETERS
    ctypedef struct cf_type_count:
        PyTypeObject *type
        size_t count
        size_t bytes
    ctypedef struct cf_outcome:
        size_t objects
        size_t bytes
        size_t pages
        size_t unwarmed
        size_t unbelieved
        size_t records
        size_t *skipped
        size_t tagged_references
        size_t patched_constants
        size_t unreadable_codes
        size_t sealed_blocks
        size_t sealed_bytes
        size_t returned_bytes
        size_t sealed_chunks
        size_t sealed_chunk_bytes
        const char *chunks_why
        size_t bare
        size_t bare_bytes
        size_t raw_str
        size_t raw_str_bytes
        size_t made_dicts
        size_t made_utf8
        size_t stopped_counters
        size_t relocated_codes
        size_t relocated_bytes
        size_t unmoved_codes
        size_t peak_extra_bytes
        bint pools_known
        bint in_malloc
        bint frames_known
        cf_refusal refused
        bint shared_keys_known
        bint counters_known
        double seconds_collect
        double seconds_walk
        double seconds_seal
        cf_type_count *types
        size_t n_types
    int cf_init() except -1
    int cf_freeze(const cf_request *request, cf_outcome *outcome) except -1
    void cf_outcome_clear(cf_outcome *outcome)
    bint cf_is_frozen(object op)
    size_t cf_other_threads()


cdef extern from "cpython/collector.h":
    bint cf_other_interpreters()


cf_init()

HAS_IMMORTAL = bool(CF_HAS_IMMORTAL)
HAS_LOAD_CONST_MORTAL = bool(CF_HAS_LOAD_CONST_MORTAL)
HAS_RELOCATION = bool(CF_HAS_RELOCATION)
HAS_RESUME_CHECK = bool(CF_HAS_RESUME_CHECK)


cdef class FreezeCounts:
    """The numbers of one freeze, in C.

    Made before the freeze, so that nothing needs to be allocated once objects have been
    marked: a freeze that has happened cannot end in a MemoryError.
    """

    cdef cf_outcome c

    def __dealloc__(self):
        self._clear()

    cdef void _keep_types(self):
        # Most are immortal by now; after a dry run, or with skip=(type,), they are not.
        for i in range(self.c.n_types):
            Py_INCREF(<object>self.c.types[i].type)

    cdef void _clear(self):
        for i in range(self.c.n_types):
            Py_DECREF(<object>self.c.types[i].type)
        cf_outcome_clear(&self.c)

    @property
    def objects(self): return self.c.objects
    @property
    def bytes(self): return self.c.bytes
    @property
    def pages(self): return self.c.pages
    @property
    def unwarmed(self): return self.c.unwarmed
    @property
    def records(self): return self.c.records
    @property
    def unbelieved(self): return self.c.unbelieved
    @property
    def tagged_references(self): return self.c.tagged_references
    @property
    def patched_constants(self): return self.c.patched_constants
    @property
    def unreadable_codes(self): return self.c.unreadable_codes
    @property
    def sealed_blocks(self): return self.c.sealed_blocks
    @property
    def sealed_bytes(self): return self.c.sealed_bytes
    @property
    def returned_bytes(self): return self.c.returned_bytes
    @property
    def sealed_chunks(self): return self.c.sealed_chunks
    @property
    def sealed_chunk_bytes(self): return self.c.sealed_chunk_bytes
    @property
    def chunks_why(self): return None if self.c.chunks_why == NULL else self.c.chunks_why.decode()
    @property
    def bare(self): return self.c.bare
    @property
    def bare_bytes(self): return self.c.bare_bytes
    @property
    def raw_str(self): return self.c.raw_str
    @property
    def raw_str_bytes(self): return self.c.raw_str_bytes
    @property
    def made_dicts(self): return self.c.made_dicts
    @property
    def made_utf8(self): return self.c.made_utf8
    @property
    def stopped_counters(self): return self.c.stopped_counters
    @property
    def relocated_codes(self): return self.c.relocated_codes
    @property
    def relocated_bytes(self): return self.c.relocated_bytes
    @property
    def unmoved_codes(self): return self.c.unmoved_codes
    @property
    def peak_extra_bytes(self): return self.c.peak_extra_bytes
    @property
    def pools_known(self): return bool(self.c.pools_known)
    @property
    def in_malloc(self): return bool(self.c.in_malloc)
    @property
    def frames_known(self): return bool(self.c.frames_known)
    @property
    def refused(self):
        """Why the freeze was refused: "collector", "interpreters" or "" (it was not)."""
        if self.c.refused == CF_REFUSED_COLLECTOR:
            return "collector"
        return "interpreters" if self.c.refused == CF_REFUSED_INTERPRETERS else ""
    @property
    def shared_keys_known(self): return bool(self.c.shared_keys_known)
    @property
    def counters_known(self): return bool(self.c.counters_known)

    @property
    def seconds(self):
        """Seconds by phase: dict of str to float."""
        return {
            "collect": self.c.seconds_collect,
            "walk": self.c.seconds_walk,
            "seal": self.c.seconds_seal,
        }

    @property
    def by_type(self):
        """(type, objects, bytes) triples by falling bytes."""
        return [
            (<object>self.c.types[i].type, self.c.types[i].count, self.c.types[i].bytes)
            for i in range(self.c.n_types)
        ]

    @property
    def skipped(self):
        """How many objects were left as they are, by reason."""
        return {
            cf_decision_name(<cf_decision>i).decode(): self.c.skipped[i]
            for i in range(1, cf_n_decisions_value)
            if self.c.skipped[i]
        }


def freeze_objects(tuple roots not None, FreezeCounts counts not None, report, list files not None, *,
                   tuple skip=(), bint collect=False, bint gc_freeze=False, bint seal=False, bint dry_run=False,
                   bint relocate=False, bint instance_dicts=False, bint utf8=False, bint takes_over=True):
    """Freeze what ROOTS reach, or with no roots the whole heap; fill in COUNTS.

    COUNTS and REPORT, which holds it, stay mortal in any case. FILES gets the files with
    buffers that were met and left. Without TAKES_OVER what an ancestor that froze has left stays
    its to finish.
    """
    cdef cf_request request
    request.roots = <PyObject *>roots
    request.own[0] = <PyObject *>counts
    request.own[1] = <PyObject *>report
    request.files = <PyObject *>files
    request.collect = collect
    request.gc_freeze = gc_freeze
    request.seal = seal
    request.dry_run = dry_run
    request.relocate = relocate
    request.instance_dicts = instance_dicts
    request.utf8 = utf8
    request.takes_over = takes_over
    request.skip = NULL
    if skip:
        request.skip = <PyTypeObject **>calloc(len(skip) + 1, sizeof(PyTypeObject *))
        if request.skip == NULL:
            raise MemoryError()
        for i, unwanted in enumerate(skip):
            request.skip[i] = <PyTypeObject *>unwanted
    counts._clear()
    try:
        cf_freeze(&request, &counts.c)
        counts._keep_types()
    finally:
        free(request.skip)


def show_label(bytes text) -> bool:
    """Show TEXT in /proc/PID/maps of this process; False if the kernel refuses."""
    return cf_label_set(text) == 0


def is_frozen(obj) -> bool:
    """Would a reader in a worker leave the header of OBJ alone?

    True for what ``freeze`` has marked and for the interpreter's own immortal objects (None,
    small ints, built-in types). Always False before Python 3.12, which counts every reference
    in the object (PEP 683), except for what ``pack`` has made: there the header is written, but
    in memory that all processes share, so that no page is copied.
    """
    return cf_is_frozen(obj) or cf_packed_contains(<size_t><PyObject *>obj)


def is_main_interpreter() -> bool:
    """Is the caller in the main interpreter?"""
    return PyInterpreterState_Get() == PyInterpreterState_Main()


def other_interpreters() -> bool:
    """Is there an interpreter beside the main one?"""
    return cf_other_interpreters()


def other_threads() -> int:
    """How many Python thread states exist beside the caller's."""
    return cf_other_threads()


def frozen_pages() -> int:
    """How many pages hold objects that this process (or the one it was forked from) froze."""
    return cf_pageset_count(cf_frozen_pages)


def is_frozen_page(size_t address) -> bool:
    """Does the page that holds ADDRESS hold a frozen object?"""
    return cf_pageset_contains(cf_frozen_pages, address)


def add_hidden_slots(sample, *values) -> bool:
    """Tell the walk where instances of SAMPLE's type keep references that no traversal shows.

    VALUES are the objects that SAMPLE refers to; their places are looked up in SAMPLE.
    """
    cdef PyObject *words[4]
    if not 1 <= len(values) <= 4:
        raise ValueError("add_hidden_slots takes one to four values")
    for i, value in enumerate(values):
        words[i] = <PyObject *>value
    return cf_layout_add_hidden(sample, words, len(values)) == 1


def add_ndarray(array, view, dtype, marker) -> bool:
    """Check numpy's array layout on throw-away arrays; False: it is not the known one."""
    return cf_layout_add_ndarray(array, view, dtype, marker) == 1


def add_records(records, numbers):
    """Find where numpy's dtypes say that they hold objects. After add_ndarray."""
    cf_layout_add_records(records, numbers)


def set_datetime(datetime, date, time, timedelta, timezone):
    """Tell the warm phase the types of the datetime module."""
    cf_layout_set_datetime(datetime, date, time, timedelta, timezone)


def set_decimal(decimal):
    """Tell the warm phase the type decimal.Decimal."""
    cf_layout_set_decimal(decimal)


def set_greenlet(type) -> bool:
    """Tell where suspended greenlets are found; False: their frames cannot be read."""
    return cf_live_frames_set_greenlet(type)


def set_zoneinfo(zoneinfo):
    """Tell the warm phase zoneinfo.ZoneInfo, or None where its utcoffset is Python code."""
    cf_layout_set_zoneinfo(zoneinfo)


def fail_allocation(long n):
    """For tests: let the N-th request for book-keeping memory fail, and all after it.

    Negative: none.
    """
    cf_mem_fail_at(n)


def bookkeeping_bytes() -> int:
    """For tests: bytes of address space that book-keeping has mapped now."""
    return cf_mem_mapped()
