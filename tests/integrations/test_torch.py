"""PyTorch's DataLoader, and a pool that reads the same dataset: what workers copy.

PyPI's torch for this kind of machine brings several gigabytes of CUDA; Debian's python3-torch is
built for the CPU (docs/integrations.md says how to run these tests with it). The pool needs none.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys

import pytest
from helpers.scripts import copied, ready, respawned, script
from helpers.servers import FILES, MIB

import cowfreeze
from cowfreeze import _core
from cowfreeze.integrations.torch import share

# 3.12+: the dataset is frozen where it is. Before, it is packed, and the rest of the heap kept out of
# the collector's way. A worker of a DataLoader writes 6 to 7 MiB of PyTorch's own objects, which the
# training process must be able to free: only the dataset is frozen. The loader's takes more than 25 MiB of pages.
MOST = {"pool": 5 * MIB, "loader": 10 * MIB}
torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch")


@functools.cache
def worst(way: str) -> int:
    with script("loaders.py", way, seconds=300) as process:
        old = ready(process)
        before = copied(old)
        new = respawned(process)
        assert set(new) != set(old)
        figures = [before, copied(new)]
        print(way, [f"{figure / MIB:.2f} MiB" for figure in figures])
        return max(figures)


@pytest.mark.parametrize("way", ["pool", pytest.param("loader", marks=[pytest.mark.slow, torch])])
def test_workers_share_the_dataset(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", "40000" if way == "pool" else "80000")
    assert worst("frozen-" + way) <= MOST[way]
    assert worst("frozen-" + way) * 3 <= worst(way)


@torch
@pytest.mark.slow
def test_wrong_side_names_the_right_place() -> None:
    done = subprocess.run([sys.executable, str(FILES / "loaders.py"), "wrong"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "worker_init_fn of a DataLoader" in done.stderr and "data_loader" in done.stderr, done.stderr


@pytest.mark.skipif(_core.HAS_IMMORTAL, reason="3.12 and later freeze any object")
def test_what_cannot_be_packed_is_named() -> None:
    class Dataset:
        def __init__(self) -> None:
            self.paths = ["a", "b"]
            self.other = [object()]

    dataset = Dataset()
    with pytest.warns(cowfreeze.CowfreezeWarning, match="other"):
        share(dataset)
    assert dataset.paths == ["a", "b"]
    del dataset.paths
    with pytest.raises(cowfreeze.CowfreezeError, match="no attribute that can be packed"):
        share(dataset)
