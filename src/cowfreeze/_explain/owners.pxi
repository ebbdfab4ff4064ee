"""Binding of object_index.h for a process that asks about its own memory. After _explain/explanation.pxi."""


cdef extern from "explain/object_index.h":
    ctypedef struct cf_owner:
        PyObject *op
        int part
        ptrdiff_t offset
    bint cf_owners_find(cf_owners *owners, uintptr_t address, cf_owner *owner)


cdef extern from "explain/fields.h":
    cf_field cf_field_of(const cf_owner *owner)


cdef class _Index(_Workers):
    """The index of this process's objects, and the objects found in it."""

    cdef dict look_up(self, list addresses):
        """Address -> (object, field, offset, in its body); ascending ADDRESSES."""
        cdef cf_owner owner
        cdef uintptr_t address
        cdef dict found = {}
        for address in addresses:
            if cf_owners_find(&self.owners, address, &owner):
                found[address] = (<object>owner.op, cf_field_name(cf_field_of(&owner)).decode(),
                                  owner.offset, owner.part == 0)
        return found

    cdef dict paths_to(self, list objects):
        """id -> (root number or None, chain), for some OBJECTS."""
        cdef size_t i, n = min(<size_t>len(objects), _MOST_PATHS)
        cdef dict paths = {}
        cdef PyObject **targets = <PyObject **>calloc(_MOST_PATHS, sizeof(PyObject *))
        cdef size_t *positions = <size_t *>calloc(_MOST_PATHS, sizeof(size_t))
        try:
            if targets == NULL or positions == NULL:
                raise MemoryError("no memory to look for owners with")
            for i in range(n):
                targets[i] = <PyObject *>objects[i]
            cf_explain_positions(&self.owners, targets, n, positions)
            for i in range(n):
                if positions[i] < self.owners.n:
                    paths[<uintptr_t>targets[i]] = self.path_of(positions[i])
        finally:
            free(targets)
            free(positions)
        return paths


def find_owners(list addresses not None, tuple roots not None) -> tuple:
    """Whose memory is at ADDRESSES of this process, now?

    Returns two dicts: address -> (object, field, offset, whether that is in its body), without
    those that are no object's; and id of an object -> (root number or None, objects from the
    root to it). Walks over all objects with the GIL held. Raises MemoryError.
    """
    cdef _Index work = _Index(0)
    cdef uintptr_t address
    cdef int was_enabled
    cdef list objects
    addresses = sorted(set(addresses))
    for address in addresses:
        if cf_pageset_add(work.pages, address, address + 1) < 0:
            raise MemoryError("no memory to look for owners with")
    was_enabled = PyGC_Disable()
    try:
        if cf_owners_build(&work.owners, <PyObject *>roots, work.pages) < 0:
            raise MemoryError("no address space for the index of objects (several times the heap); "
                              "raise the limit (ulimit -v)")
        found = work.look_up(addresses)
        objects = list({id(entry[0]): entry[0] for entry in found.values()}.values())
        return found, work.paths_to(objects)
    finally:
        if was_enabled:
            PyGC_Enable()
