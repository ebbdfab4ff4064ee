"""What an integration says: to the logger "cowfreeze", what was done as INFO, what was refused as WARNING.

If nobody listens there, the host's own logger gets it instead, if the host has one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

Say = Callable[[str], object]

_said: set[str] = set()


def tell(text: str, say: Say | None = None) -> None:
    """What was done, one line."""
    log = _logger("INFO")
    if log is not None:
        log.info(text)
    elif say is not None:
        say(text)


def warn(text: str, say: Say | None = None) -> None:
    """What was refused and why: once in each process."""
    if text in _said:
        return
    _said.add(text)
    log = _logger("WARNING")
    if log is not None:
        log.warning(text)
    elif say is not None:
        say(text)
    else:
        os.write(2, f"cowfreeze: {text}\n".encode(errors="replace"))


def _logger(level: str) -> Any:
    """The logger, if somebody listens to it. logging is not imported for it.

    It would be imported after a freeze, or inside of a hook before a fork: then its own hook after
    the fork releases a mutex that nobody has taken.
    """
    logging = sys.modules.get("logging")
    if logging is None:
        return None
    log = logging.getLogger("cowfreeze")
    return log if log.hasHandlers() and log.isEnabledFor(getattr(logging, level)) else None
