"""Run the command line as user 65534. Everything is imported before: the files may not be readable then."""

from __future__ import annotations

import os
import sys

import cowfreeze.cli
import rich.box
import rich.console
import rich.live
import rich.table  # noqa: F401
from cowfreeze import _tables
from cowfreeze.cli import (  # noqa: F401
    _doctor_machine,
    _doctor_process,
    _finding,
    _probe,
    _top_sample,
    _top_table,
)

_tables.render(_tables.make_table("warm", ["a"], [["b"]]))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(cowfreeze.cli.main(sys.argv[1:]))
