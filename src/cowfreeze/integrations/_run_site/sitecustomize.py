"""Arms the process that `cowfreeze run` started, and every Python program below it.

`cowfreeze run` puts this folder first on PYTHONPATH; the interpreter imports `sitecustomize` at its
start, before the program. It takes the folder off sys.path again and imports the sitecustomize that
would have been imported without it.
"""

from __future__ import annotations

import os
import sys


def _pass_on() -> None:
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _arm() -> None:
    try:
        from cowfreeze.integrations._before_fork import arm
    except Exception as error:
        os.write(2, f"cowfreeze run: {sys.executable} cannot import cowfreeze ({error}); nothing is frozen\n".encode())
        return
    arm(os.environ.get("COWFREEZE_WHEN", ""))


_arm()
_pass_on()
