"""What the doctor says about one thing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

OK, INFO, UNKNOWN, WARNING, PROBLEM = "ok", "info", "unknown", "warning", "problem"
LEVELS = (OK, INFO, UNKNOWN, WARNING, PROBLEM)  # from the best to the worst


@dataclass(frozen=True)
class Finding:
    """One check and how it came out.

    Attributes:
        name: of the check; `--ignore NAME` silences it.
        level: "ok"; "info", worth knowing and nothing to do; "unknown", it could not be looked
            at; "warning", it costs memory or spoils figures; "problem", a fork fails or freezing
            is pointless here.
        text: what was found, with the figures.
        remedy: lines to paste or to change; () if there is nothing to do.
        pid: the process that it is about, None for the machine and this Python.
    """

    name: str
    level: str
    text: str
    remedy: tuple[str, ...] = ()
    pid: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
