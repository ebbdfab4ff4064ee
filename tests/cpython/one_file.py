"""Run one file of CPython's own tests in this process, on a heap that is frozen or not.

    python one_file.py MODE TEST RESULT.xml

MODE   plain      nothing is frozen: the yardstick
       frozen     everything is frozen when the test module has been imported: all modules that
                  the file needs, its classes and functions, and what the interpreter has made
       children   as frozen, and every process that a test forks or starts freezes itself again:
                  forked ones in a fork hook, started ones in sitecustomize (this folder's)
TEST   the name as `python -m test --list-tests` prints it

The exit status is regrtest's. RESULT.xml is written by regrtest, one element per test.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))


def freeze() -> None:
    import cowfreeze

    cowfreeze.freeze(threads="allow", allow_forked=True)


def main(mode: str, name: str, result: str) -> None:
    from test.libregrtest import main as regrtest

    if mode != "plain":
        # Unable to import: regrtest skips or fails the file, frozen or not.
        with contextlib.suppress(ImportError, unittest.SkipTest):
            importlib.import_module(f"test.{name}")
        freeze()
    if mode == "children":
        os.register_at_fork(after_in_child=freeze)
        path = [os.path.join(HERE, "spawned"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    sys.argv = ["regrtest", "--junit-xml", result, name]
    # A package in some versions, a module in others.
    getattr(regrtest, "main", regrtest)()


if __name__ == "__main__":
    main(*sys.argv[1:4])
