"""Run one file of CPython's own tests in this process, on a heap that is frozen or not.

    python one_file.py MODE TEST RESULT.xml [OPTION ...]

MODE   plain      nothing is frozen: the yardstick
       frozen     everything is frozen when regrtest has imported the test module: all modules
                  that the file needs, its classes and functions, what the interpreter has made
       children   as frozen, and every process that a test forks or starts freezes itself again:
                  forked ones in a fork hook, started ones in sitecustomize (this folder's)
TEST   the name as `python -m test --list-tests` prints it
OPTION of regrtest, as -R 3:3

The exit status is regrtest's. RESULT.xml is written by regrtest, one element per test.
"""

from __future__ import annotations

import os
import sys
import unittest
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))


NEVER_FROZEN = 99  # exit status: regrtest went another way than through unittest's loader
frozen = 0


def freeze() -> None:
    global frozen
    import cowfreeze

    frozen += 1
    cowfreeze.freeze(threads="allow", allow_forked=True)


def freeze_after_import() -> None:
    """Freeze when regrtest has imported the test module and looks for its tests."""
    load = unittest.TestLoader.loadTestsFromModule

    def load_from_frozen(self: unittest.TestLoader, module: Any, *args: Any, **kwargs: Any) -> Any:
        unittest.TestLoader.loadTestsFromModule = load  # type: ignore[method-assign]
        freeze()
        return load(self, module, *args, **kwargs)

    unittest.TestLoader.loadTestsFromModule = load_from_frozen  # type: ignore[method-assign]


def main(mode: str, name: str, result: str, *options: str) -> None:
    from test.libregrtest import main as regrtest

    if mode != "plain":
        import cowfreeze  # noqa: F401  (before regrtest changes folders and limits)

        freeze_after_import()
    if mode == "children":
        os.register_at_fork(after_in_child=freeze)
        path = [os.path.join(HERE, "spawned"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    sys.argv = ["regrtest", "--junit-xml", result, *options, name]
    try:
        # A package in some versions, a module in others.
        getattr(regrtest, "main", regrtest)()
    finally:
        if mode != "plain" and not frozen:
            os._exit(NEVER_FROZEN)


if __name__ == "__main__":
    main(*sys.argv[1:])
