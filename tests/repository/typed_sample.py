"""A user's program as a type checker sees it: `make lint` runs mypy --strict on it, nobody runs it."""

from __future__ import annotations

from collections.abc import Iterator

import cowfreeze

catalogue: dict[str, list[int]] = {"tea": [1, 2]}


def serve(index: int) -> int:
    return len(catalogue) + index


def everything() -> None:
    report: cowfreeze.FreezeReport = cowfreeze.freeze(catalogue, skip=(OSError,), threads="refuse")
    objects: int = report.objects
    kinds: dict[str, tuple[int, int]] = report.by_type
    frozen: bool = cowfreeze.is_frozen(catalogue)
    result: cowfreeze.WorkersResult = cowfreeze.fork_workers(serve, workers=4, explain=True)
    copied: int | None = result.copied
    result.assert_shared(max_copied="512 KiB", max_frozen=16)
    causes: tuple[cowfreeze.PageCause, ...] = result.explain().causes
    workers: tuple[cowfreeze.WorkerReport, ...] = result.workers
    with cowfreeze.trap() as trapped:
        serve(0)
    lines = [write.line for write in trapped.writes]
    packed = cowfreeze.pack(catalogue)
    copies: Iterator[object] = cowfreeze.iter_clone(packed, "tea")
    print(objects, kinds, frozen, copied, causes, workers, lines, list(copies), report.to_dict())


def fails() -> None:
    try:
        cowfreeze.assert_shared(serve, workers=2)
    except cowfreeze.PagesCopied as error:
        print(error)
    cowfreeze.fast_exit(0)
