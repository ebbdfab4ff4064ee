"""The file of saved figures: what --cow-save writes and --cow-fail-on-increase reads.

    {"CPython 3.13, x86_64, 4096-byte pages": {"tests/test_a.py::test_b": {"copied": 81920, ...}}}

It belongs into the repository, so that an increase is seen in review. Figures of another
interpreter or page size are no measure for this one; each environment has its own part.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from cowfreeze._files import check_writable, write_whole
from cowfreeze._plugin.result import CowResult
from cowfreeze._sizes import format_size

DEFAULT = "cow-figures.json"

# Below this an increase is noise, whatever the percentage says: which pages hold the frames,
# small ints and free blocks that a body uses differs from run to run.
TOLERANCE = 128 * 1024
TOLERANCE_FROZEN = 16

_SAVED = pytest.StashKey["dict[str, dict[str, Any]]"]()


def path(config: pytest.Config) -> Path:
    """The file that the ini key ``cow_figures`` names, from the root directory."""
    return config.rootpath / (config.getini("cow_figures") or DEFAULT)


def environment() -> str:
    """What figures depend on."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"CPython {version}, {platform.machine()}, {os.sysconf('SC_PAGE_SIZE')}-byte pages"


def load(config: pytest.Config) -> dict[str, dict[str, Any]]:
    """The saved figures of this environment, by node id.

    Raises:
        pytest.UsageError: there is no such file, it is not ours, or holds others only.
    """
    if _SAVED not in config.stash:
        everything = _read(config)
        here = environment()
        if here not in everything:
            raise pytest.UsageError(
                f"--cow-fail-on-increase: {path(config)} has no figures of {here}"
                + (f", only of {'; '.join(sorted(everything))}" if everything else "")
                + ". Run pytest --cow-save here first"
            )
        config.stash[_SAVED] = everything[here]
    return config.stash[_SAVED]


def _read(config: pytest.Config) -> dict[str, dict[str, dict[str, Any]]]:
    file = path(config)
    try:
        everything = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"the saved figures {file} cannot be read: {error}") from None
    if not isinstance(everything, dict) or not all(
        isinstance(part, dict) and all(isinstance(figures, dict) for figures in part.values())
        for part in everything.values()
    ):
        raise pytest.UsageError(
            f"{file} is no file of saved figures: remove it, or name another with cow_figures"
        )
    return everything


def check(config: pytest.Config) -> None:
    """What `save` needs.

    Raises:
        pytest.UsageError: the file is there and not ours, or cannot be written.
    """
    _read(config)
    try:
        check_writable(path(config))
    except OSError as error:
        raise pytest.UsageError(f"--cow-save: {path(config)}: {error.strerror}") from None


def save(config: pytest.Config, measured: dict[str, dict[str, Any]]) -> Path:
    """Write the figures of this run; tests that did not run keep theirs."""
    everything = _read(config)
    part = everything.setdefault(environment(), {})
    for name, figures in measured.items():
        part[name] = {
            key: figures[key] for key in ("copied", "frozen_copied", "faults", "freeze")
        }
    file = path(config)
    text = json.dumps(everything, indent=2, sort_keys=True) + "\n"
    write_whole(file, text)
    return file


def compare(saved: dict[str, Any] | None, result: CowResult, percent: float) -> str:
    """What increased, as a sentence, or "". A test without saved figures cannot increase."""
    if saved is None:
        return ""
    texts = []
    rise = _rise(saved.get("copied"), result.copied, percent, TOLERANCE)
    if rise is not None:
        texts.append(
            f"workers copied {format_size(rise[1])}, saved are {format_size(rise[0])} (allowed "
            f"{percent:g}%, and {format_size(TOLERANCE)} in any case)"
        )
    rise = _rise(saved.get("frozen_copied"), result.frozen_copied, percent, TOLERANCE_FROZEN)
    if rise is not None:
        texts.append(
            f"{rise[1]} copied pages hold frozen objects, saved are {rise[0]} (allowed {percent:g}%, "
            f"and {TOLERANCE_FROZEN} in any case)"
        )
    return "; ".join(texts)


def _rise(
    before: object, now: int | None, percent: float, tolerance: int
) -> tuple[int, int] | None:
    """Both figures if NOW is above BEFORE by more than both tolerances; an unknown one is not."""
    if not isinstance(before, int) or now is None:
        return None
    return (before, now) if now > before + max(before * percent / 100, tolerance) else None
