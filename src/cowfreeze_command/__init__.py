"""Where the `cowfreeze` script begins. `zygote run` is told apart here, before anything is imported.

It stands for `python`, many times a second perhaps, and only hands its arguments to a process that
runs already. Importing cowfreeze for that would take several times as long as the rest.
"""

from __future__ import annotations

import sys


def main() -> int:
    """The console script."""
    if sys.argv[1:3] == ["zygote", "run"] and sys.argv[3:4] not in ([], ["-h"], ["--help"]):
        from cowfreeze_command.zygote_run import main as run

        return run(sys.argv[3:])
    from cowfreeze.cli import main as command

    return command()
