"""Workers of a zygote copy at most 1 MB, whatever they read: by a frozen heap, or by packed data (3.10, 3.11: 3 MB)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from zygote.zygote_case import run_case

from cowfreeze import _core

MB = 1_000_000
# Before 3.12 every object of the interpreter that a worker touches is written; the data are not.
MOST = MB if _core.HAS_IMMORTAL else 3 * MB
SMALL, LARGE = 20_000, 250_000  # 9 MiB and 107 MiB


@pytest.mark.parametrize("number", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["auto", "pack"])
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_workers_copy_at_most_a_megabyte(kind: str, how: str, number: int, tmp_path: Path) -> None:
    workers, copied, size, did = run_case(
        "cases_memory", "copied", number, kind, {"how": how}, folder=tmp_path
    ).result  # fmt: skip
    print(f"{kind}, {did}: {[round(one / MB, 2) for one in copied]} MB of {size / MB:.0f}")
    assert did == ("heap" if how == "auto" and _core.HAS_IMMORTAL else "pack")
    assert workers == 2
    # Of whom was forked first the bound also counts some 22 pages that the zygote wrote at the second fork.
    assert min(copied) <= MOST
    assert max(copied) <= (1 << 20 if sys.version_info >= (3, 15) else MOST)
    assert size > number * 300
