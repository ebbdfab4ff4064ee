"""Binding of explain.h: which object and field was written on each copied page."""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc


cdef extern from "Python.h":
    int PyGC_Enable()
    int PyGC_Disable()


cdef extern from "base/pageset.h":
    cf_pageset *cf_pageset_new()
    void cf_pageset_free(cf_pageset *pages)
    int cf_pageset_add(cf_pageset *pages, uintptr_t start, uintptr_t end)


cdef extern from "base/mem.h":
    void *cf_mem_reserve(size_t size)
    void cf_mem_unmap(void *block, size_t size)


cdef extern from "explain/object_index.h":
    enum:
        CF_FROM_ROOT
        CF_FROM_COLLECTOR
        CF_PART_KEYS
        CF_PART_VALUES
    ctypedef struct cf_owners:
        PyObject **objects
        uint32_t *parents
        size_t n
        size_t capacity
        bint overflow
    int cf_owners_build(cf_owners *owners, PyObject *roots, const cf_pageset *pages)
    void cf_owners_clear(cf_owners *owners)


cdef extern from "explain/other_memory.h":
    ctypedef struct cf_places:
        pass
    int cf_places_begin(cf_places *places, cf_owners *owners, const cf_witness *witness, int memory)
    void cf_places_clear(cf_places *places)
    void cf_places_rewind(cf_places *places)


cdef extern from "proc/memory.h":
    ctypedef struct cf_snapshot:
        int fd


cdef extern from "allocators/blocks_at_fork.h":
    uintptr_t CF_POOL_SIZE
    bint cf_pool_arena(cf_snapshot *memory, uintptr_t base, uint32_t *arena)


cdef extern from "explain/fields.h":
    ctypedef enum cf_field:
        pass
    const char *cf_field_name(cf_field field)


cdef extern from "explain/explain.h":
    enum:
        CF_EXAMPLES
        CF_CHANGED
        CF_SAME_BYTES
        CF_UNREADABLE
        CF_PLACE_OBJECT
        CF_PLACE_POOL_HEADER
        CF_PLACE_POOL_FREE
        CF_PLACE_POOL_USED
        CF_PLACE_FREE_LIST
        CF_PLACE_CHUNK_HEADER
        CF_PLACE_CHUNK_FREE
        CF_PLACE_CHUNK_USED
        CF_PLACE_CHUNK_TOP
        CF_PLACE_CHUNK_MAPPED
        CF_PLACE_CHUNK_ARENA
        CF_PLACE_INTERPRETER
        CF_PLACE_FRAMES
        CF_PLACE_STACK
        CF_PLACE_LIBRARY
        CF_RANK_OBJECT
        CF_RANK_ALLOCATOR
        CF_RANK_SYSTEM
        CF_RANK_UNKNOWN
    ctypedef struct cf_example:
        PyObject *op
        uintptr_t address
        ptrdiff_t offset
        int part
        const char *symbol
        size_t words
    ctypedef struct cf_cause:
        int change
        int place
        cf_field field
        const void *what
        const char *library
        size_t pages
        size_t alone
        size_t words
        cf_example *examples
        size_t n_examples
    ctypedef struct cf_explanation:
        cf_cause *causes
        size_t n_causes
        size_t *ranks
    int cf_explanation_reserve(cf_explanation *explanation)
    void cf_explanation_clear(cf_explanation *explanation)
    void cf_explain(cf_explanation *explanation, cf_places *places, int memory,
                    bint collected, const uintptr_t *pages, size_t n,
                    uint32_t *main_causes, PyObject **main_owners)
    const cf_cause *cf_explain_cause_at(cf_explanation *explanation, cf_places *places,
                                        uintptr_t address)
    void cf_explain_positions(const cf_owners *owners, PyObject **targets, size_t n,
                              size_t *positions)


cdef extern from "cpython/compat.h":
    ptrdiff_t CF_CODE_BYTECODE


CODE_BYTECODE = CF_CODE_BYTECODE  # bytes before the bytecode of a code object; 0: not in it

cdef size_t _MOST_PATHS = 1024
cdef size_t _LONGEST_PATH = 60
cdef size_t _MOST_OWNERS = 1 << 16  # pages of a worker for which an object is handed out

_PLACES = {
    CF_PLACE_OBJECT: "object",
    CF_PLACE_POOL_HEADER: "pool header",
    CF_PLACE_POOL_FREE: "pool free",
    CF_PLACE_POOL_USED: "pool used",
    CF_PLACE_FREE_LIST: "free list",
    CF_PLACE_CHUNK_HEADER: "chunk header",
    CF_PLACE_CHUNK_FREE: "chunk free",
    CF_PLACE_CHUNK_USED: "chunk used",
    CF_PLACE_CHUNK_TOP: "chunk top",
    CF_PLACE_CHUNK_MAPPED: "chunk mapped",
    CF_PLACE_CHUNK_ARENA: "chunk arena",
    CF_PLACE_INTERPRETER: "interpreter",
    CF_PLACE_FRAMES: "frames",
    CF_PLACE_STACK: "stack",
    CF_PLACE_LIBRARY: "library",
}
_CHANGES = {CF_CHANGED: "changed", CF_SAME_BYTES: "same bytes", CF_UNREADABLE: "unreadable"}


cdef class _Workers:
    """The C memory of one explain_pages, so that every way out gives it back."""

    cdef cf_owners owners
    cdef cf_places places
    cdef cf_pageset *pages
    cdef cf_explanation *explanations
    cdef uintptr_t **lists
    cdef uint32_t **mains
    cdef PyObject ***main_owners
    cdef size_t *counts
    cdef size_t n

    def __cinit__(self, size_t n):
        self.n = n
        self.explanations = <cf_explanation *>calloc(n, sizeof(cf_explanation))
        self.lists = <uintptr_t **>calloc(n, sizeof(uintptr_t *))
        self.mains = <uint32_t **>calloc(n, sizeof(uint32_t *))
        self.main_owners = <PyObject ***>calloc(n, sizeof(PyObject **))
        self.counts = <size_t *>calloc(n, sizeof(size_t))
        self.pages = cf_pageset_new()
        if (self.explanations == NULL or self.lists == NULL or self.mains == NULL
                or self.main_owners == NULL or self.counts == NULL or self.pages == NULL):
            raise MemoryError("no memory to explain pages with")

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.n):
            if self.explanations != NULL:
                cf_explanation_clear(&self.explanations[i])
            if self.counts != NULL and self.lists != NULL:
                cf_mem_unmap(self.lists[i], self.counts[i] * sizeof(uintptr_t))
            if self.counts != NULL and self.mains != NULL:
                cf_mem_unmap(self.mains[i], self.counts[i] * sizeof(uint32_t))
            if self.counts != NULL and self.main_owners != NULL:
                cf_mem_unmap(self.main_owners[i], self.counts[i] * sizeof(PyObject *))
        free(self.explanations)
        free(self.lists)
        free(self.mains)
        free(self.main_owners)
        free(self.counts)
        cf_pageset_free(self.pages)
        cf_places_clear(&self.places)
        cf_owners_clear(&self.owners)

    cdef int take_pages(self, size_t i, PageList pages) except -1:
        cdef size_t k
        cdef uintptr_t address
        self.counts[i] = pages.count()
        if self.counts[i] == 0:
            return 0
        self.lists[i] = <uintptr_t *>cf_mem_reserve(self.counts[i] * sizeof(uintptr_t))
        self.mains[i] = <uint32_t *>cf_mem_reserve(self.counts[i] * sizeof(uint32_t))
        self.main_owners[i] = <PyObject **>cf_mem_reserve(self.counts[i] * sizeof(PyObject *))
        if self.lists[i] == NULL or self.mains[i] == NULL or self.main_owners[i] == NULL:
            raise MemoryError("no memory to explain pages with")
        memcpy(self.lists[i], pages.copied(), self.counts[i] * sizeof(uintptr_t))
        for k in range(self.counts[i]):
            address = self.lists[i][k]
            if cf_pageset_add(self.pages, address, address + 1) < 0:
                raise MemoryError("no memory to explain pages with")
        return 0

    cdef object path_of(self, size_t position):
        """(root number or None, objects from the root to the one at POSITION)."""
        cdef list chain = []
        cdef uint32_t parent
        while True:
            chain.append(<object>self.owners.objects[position])
            parent = self.owners.parents[position]
            if parent == <uint32_t>CF_FROM_COLLECTOR or len(chain) == <Py_ssize_t>_LONGEST_PATH:
                root = None
                break
            if parent & <uint32_t>CF_FROM_ROOT:
                root = parent & ~<uint32_t>CF_FROM_ROOT
                break
            position = parent
        chain.reverse()
        return root, chain

    cdef dict paths(self):
        """Paths to the objects of all examples, by address of the object."""
        cdef size_t i, k, m, n = 0
        cdef PyObject **targets
        cdef size_t *positions
        cdef cf_cause *cause
        cdef dict found = {}
        targets = <PyObject **>calloc(_MOST_PATHS, sizeof(PyObject *))
        positions = <size_t *>calloc(_MOST_PATHS, sizeof(size_t))
        try:
            if targets == NULL or positions == NULL:
                raise MemoryError("no memory to explain pages with")
            # The best example of every cause first.
            for m in range(<size_t>CF_EXAMPLES):
                for i in range(self.n):
                    for k in range(self.explanations[i].n_causes):
                        cause = &self.explanations[i].causes[k]
                        if m < cause.n_examples and cause.examples[m].op != NULL and n < _MOST_PATHS:
                            targets[n] = cause.examples[m].op
                            n += 1
            cf_explain_positions(&self.owners, targets, n, positions)
            for i in range(n):
                if positions[i] < self.owners.n:
                    found[<uintptr_t>targets[i]] = self.path_of(positions[i])
        finally:
            free(targets)
            free(positions)
        return found

    cdef list first_writes(self, size_t i, TrapBuffer trapped):
        """(number of a write, position of its cause) for the listed pages of worker I."""
        cdef size_t k = 0, page_size = cf_page_size()
        cdef const cf_cause *cause
        cdef uintptr_t address, page
        cdef list found = []
        cf_places_rewind(&self.places)
        for address, number in sorted(trapped.addresses()):
            page = address & ~(page_size - 1)
            while k < self.counts[i] and self.lists[i][k] < page:
                k += 1
            if k == self.counts[i]:
                break
            if self.lists[i][k] == page:
                cause = cf_explain_cause_at(&self.explanations[i], &self.places, address)
                position = self.mains[i][k] if cause == NULL else cause - self.explanations[i].causes
                found.append((number, position))
        return found

    cdef dict cause(self, cf_cause *cause, dict paths):
        cdef size_t i
        cdef list examples = []
        for i in range(cause.n_examples):
            op = cause.examples[i].op
            address = <uintptr_t>op
            examples.append({
                "object": <object>op if op != NULL else None,
                "is_object": op != NULL,
                "address": cause.examples[i].address,
                "offset": cause.examples[i].offset,
                "in_body": cause.examples[i].part == 0,
                "in_values": cause.examples[i].part == <int>CF_PART_VALUES,
                "symbol": _text_or_none(cause.examples[i].symbol),
                "words": cause.examples[i].words,
                "path": paths.get(address),
            })
        is_object = cause.place == <int>CF_PLACE_OBJECT or cause.place == <int>CF_PLACE_FREE_LIST
        return {
            "change": _CHANGES[cause.change],
            "place": _PLACES.get(cause.place, "unknown"),
            "type": <object><PyObject *>cause.what if is_object else None,
            "field": cf_field_name(cause.field).decode(),
            "library": _text_or_none(cause.library),
            "pages": cause.pages,
            "alone": cause.alone,
            "words": cause.words,
            "examples": examples,
        }


cdef object _text_or_none(const char *text):
    return None if text == NULL else text.decode("utf-8", "replace")


def explain_pages(Witness witness not None, int witness_memory, tuple workers not None,
                  tuple roots not None) -> list:
    """What was written on the pages of PageLists, by comparing with the witness.

    workers: a tuple for each: PageList, descriptor of its /proc/PID/mem, whether it ran a full
    collection over everything that is tracked, and TrapBuffer or None; the workers must wait.
    witness_memory: descriptor of the witness's. roots: where paths to objects begin.

    Returns a dict per worker: "causes" (list of dicts; examples hold the objects themselves),
    "ranks" (pages by what is known best of them: object, allocator, system, unknown), "pages"
    (bytes of the addresses, 8 bytes each), "main" (bytes of positions in causes, 4 each),
    "owners" (for each of the first 65,536 pages an object there that the main cause wrote, or None) and
    "writes" (pairs: number of a trapped write, position in causes).

    Holds the GIL from the walk over all objects to the end, so that none of them can go.
    Raises MemoryError, RuntimeError when the witness's mappings cannot be read.
    """
    cdef _Workers work = _Workers(len(workers))
    cdef size_t i, k
    cdef int memory
    cdef int was_enabled
    cdef cf_explanation *explanation
    cdef list collected = [entry[2] for entry in workers]
    for i in range(work.n):
        work.take_pages(i, workers[i][0])
    # Nothing may die between the walk and the last use of a borrowed pointer.
    was_enabled = PyGC_Disable()
    try:
        if cf_owners_build(&work.owners, <PyObject *>roots, work.pages) < 0:
            raise MemoryError("no address space for the index of objects (several times the heap); "
                              "raise the limit (ulimit -v)")
        if cf_places_begin(&work.places, &work.owners, &witness.witness, witness_memory) < 0:
            raise RuntimeError("the mappings of the witness cannot be read")
        for i in range(work.n):
            if cf_explanation_reserve(&work.explanations[i]) < 0:
                raise MemoryError("no memory to explain pages with")
            memory = workers[i][1]
            cf_explain(&work.explanations[i], &work.places, memory,
                       collected[i], work.lists[i], work.counts[i], work.mains[i],
                       work.main_owners[i])
        paths = work.paths()
        found = []
        for i in range(work.n):
            explanation = &work.explanations[i]
            found.append({
                "causes": [work.cause(&explanation.causes[k], paths)
                           for k in range(explanation.n_causes)],
                "ranks": {
                    "object": explanation.ranks[<int>CF_RANK_OBJECT],
                    "allocator": explanation.ranks[<int>CF_RANK_ALLOCATOR],
                    "system": explanation.ranks[<int>CF_RANK_SYSTEM],
                    "unknown": explanation.ranks[<int>CF_RANK_UNKNOWN],
                },
                "pages": (<const char *>work.lists[i])[:work.counts[i] * sizeof(uintptr_t)]
                         if work.counts[i] else b"",
                "main": (<const char *>work.mains[i])[:work.counts[i] * sizeof(uint32_t)]
                        if work.counts[i] else b"",
                "owners": [<object>work.main_owners[i][k] if work.main_owners[i][k] != NULL else None
                           for k in range(min(work.counts[i], _MOST_OWNERS))],
                "writes": [] if workers[i][3] is None else work.first_writes(i, workers[i][3]),
                "objects": work.owners.n,
                "overflow": bool(work.owners.overflow),
            })
        return found
    finally:
        if was_enabled:
            PyGC_Enable()


def pool_arenas(int memory, uintptr_t start, uintptr_t end) -> list:
    """Which arenas of pymalloc have pools that begin in START .. END: (start, end, number) triples.

    memory: descriptor of an open /proc/PID/mem. Both addresses are multiples of the pool's size or
    are rounded up to it. Neighbouring pools of one arena are one triple.
    """
    cdef cf_snapshot snapshot
    cdef uint32_t arena
    cdef uintptr_t base = (start + CF_POOL_SIZE - 1) & ~(<uintptr_t>CF_POOL_SIZE - 1)
    cdef list found = []
    snapshot.fd = memory
    while base < end:
        if cf_pool_arena(&snapshot, base, &arena):
            if found and found[-1][1] == base and found[-1][2] == arena:
                found[-1] = (found[-1][0], base + CF_POOL_SIZE, arena)
            else:
                found.append((base, base + CF_POOL_SIZE, arena))
        base += CF_POOL_SIZE
    return found


def attribute_names(cls) -> tuple:
    """The names under which instances of CLS keep attributes in themselves, in their order.

    Empty where that is not known. Reads the class only: asking an instance for its __dict__
    would make one.
    """
    cdef list names = []
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no class")
    cf_attribute_names(<PyTypeObject *>cls, _append_name, <void *>names)
    return tuple(names)


def attribute_room(cls) -> int:
    """For how many attribute values instances of CLS have room in themselves; 0: not known."""
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no class")
    return cf_attribute_room(<PyTypeObject *>cls)


cdef int _append_name(PyObject *name, void *names) noexcept:
    (<list>names).append(<object>name)
    return 0


cdef extern from "objects/edges.h":
    size_t cf_attribute_room(PyTypeObject *type)
    int cf_attribute_names(PyTypeObject *type, int (*visit)(PyObject *, void *) noexcept, void *arg)
