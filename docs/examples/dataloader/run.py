"""Two workers of a DataLoader read a dataset, first plain, then frozen: python run.py"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from annotations import Annotations  # noqa: E402
from looking import copied_by_workers, say  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import cowfreeze  # noqa: E402

dataset = Annotations(150_000)


def measure(way: str) -> None:
    loader = DataLoader(
        dataset, batch_size=1000, num_workers=2, multiprocessing_context="fork", persistent_workers=True
    )
    for _ in loader:
        pass
    say(way, copied_by_workers(os.getpid()))  # the workers wait for the next epoch


measure("plain")
cowfreeze.freeze(dataset, threads="allow")  # torch has threads of its own; they do not touch the dataset
measure("frozen")
