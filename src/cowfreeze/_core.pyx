# cython: language_level=3, binding=False, embedsignature=True
"""The binding between Python and csrc/: convert, call, convert back.

No policy and no loop over objects belongs here. Each .pxi binds one group of C files.
"""

include "_workers/audit.pxi"
include "_freeze/freeze.pxi"
include "_freeze/code.pxi"
include "_freeze/move.pxi"
include "_trap.pxi"
include "_explain/explanation.pxi"
include "_explain/owners.pxi"
include "_clone.pxi"
include "_pack.pxi"
include "_exit.pxi"
