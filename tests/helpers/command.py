"""The installed command, as a person runs it."""

from __future__ import annotations

import subprocess
import sys


def cowfreeze(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    settings: dict[str, object] = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 300}
    command = [sys.executable, "-m", "cowfreeze", *arguments]
    return subprocess.run(command, check=False, **{**settings, **options})  # type: ignore[call-overload,no-any-return]
