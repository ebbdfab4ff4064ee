# cython: language_level=3, binding=False, embedsignature=True
"""The binding between Python and csrc/: convert, call, convert back.

No policy and no loop over objects belongs here. Each .pxi binds one group of C files.
"""

include "_audit.pxi"
include "_freeze.pxi"
include "_move.pxi"
include "_trap.pxi"
include "_explain.pxi"
include "_owners.pxi"
include "_clone.pxi"
include "_pack.pxi"
include "_exit.pxi"
