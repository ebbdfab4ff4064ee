"""Run the command line as user 65534, who may not be able to read Python's own files.

So it runs once as the user who starts this, which imports everything, and its answer is dropped.
"""

from __future__ import annotations

import contextlib
import io
import os
import pwd  # noqa: F401  needed only once something is refused
import sys

import cowfreeze.cli

with contextlib.redirect_stdout(io.StringIO()):
    cowfreeze.cli.main(sys.argv[1:])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(cowfreeze.cli.main(sys.argv[1:]))
