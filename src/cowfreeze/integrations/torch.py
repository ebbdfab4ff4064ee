"""PyTorch: a DataLoader whose workers share the dataset.

    loader = cowfreeze.integrations.torch.data_loader(dataset, num_workers=8, persistent_workers=True)

Tensors and arrays share well as they are: nobody counts references inside of them. What copies is
everything else that a dataset holds (lists of paths, dicts of annotations): each worker writes a
reference count when it looks.

    3.12+         the dataset is frozen where it is, and looks the same afterwards
    3.10, 3.11    attributes of plain data (list, dict, tuple, str, numbers...) are replaced by
                  packed, read-only copies: these versions write every count that they touch; the
                  rest of the heap goes to the collector's permanent generation

Workers must be forked. That is PyTorch's default before Python 3.14; from 3.14 on it is the fork
server, to which the dataset is pickled, a copy for each worker. Forked workers must not use CUDA.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cowfreeze
from cowfreeze._errors import CowfreezeError, CowfreezeWarning, UnsupportedError

if TYPE_CHECKING:
    from cowfreeze import FreezeReport, PackReport


def share(
    dataset: Any, *, warmup: Callable[[], object] | None = None, threads: str = "allow", **freezing: Any
) -> FreezeReport | tuple[PackReport, ...]:
    """Make what DATASET holds shareable by forked workers. Needs no PyTorch.

    Args:
        dataset: any object; on 3.10 and 3.11 one with attributes, which are replaced.
        warmup: what workers will do, done once before the freeze, for example
            ``lambda: dataset[0]``; what it fills is shared.
        threads: as `freeze` takes it. PyTorch's own threads run code of C only.
        freezing: further arguments of `freeze`, from 3.12 on.

    Returns:
        The report of `freeze`; on 3.10 and 3.11 those of `pack`, one for each replaced attribute.
        A CowfreezeWarning names attributes that could not be packed.

    Raises:
        CowfreezeError: there was nothing that could be packed.
    """
    if sys.version_info >= (3, 12) or not cowfreeze.supported:
        return cowfreeze.freeze(dataset, threads=threads, warmup=warmup, **freezing)
    if warmup is not None:
        warmup()
    reports: list[PackReport] = []
    left: list[str] = []
    for name, value in list(getattr(dataset, "__dict__", {}).items()):
        if not isinstance(value, (list, tuple, dict, set, frozenset)):
            continue
        try:
            setattr(dataset, name, cowfreeze.pack(value, report=reports.append))
        except (TypeError, UnsupportedError) as error:
            left.append(f"{name} ({error})")
    if not reports:
        raise CowfreezeError(
            f"{type(dataset).__name__} has no attribute that can be packed, and this Python counts every reference in "
            f"the object: {', '.join(left) or 'no lists, tuples, dicts or sets'}. Python 3.12 shares any object"
        )
    # Collections in a worker write to what is tracked: that which was not packed stays out of them.
    gc.collect()
    gc.freeze()
    if left:
        warnings.warn(f"workers will copy what could not be packed: {', '.join(left)}", CowfreezeWarning, stacklevel=2)
    return tuple(reports)


def data_loader(dataset: Any, *, warmup: Callable[[], object] | None = None, **options: Any) -> Any:
    """A `torch.utils.data.DataLoader` with forked workers, after `share(dataset)`.

    Args:
        dataset: as DataLoader takes it.
        warmup: as `share` takes it.
        options: for DataLoader, except multiprocessing_context. `worker_init_fn` runs in each
            worker: what it makes is not shared.

    Raises:
        TypeError: multiprocessing_context is given.
        CowfreezeError: see `share`; or this is a worker of multiprocessing.
        UnsupportedError: PyTorch is not installed.
    """
    if "multiprocessing_context" in options:
        raise TypeError("data_loader() chooses multiprocessing_context itself: fork")
    try:
        from torch.utils.data import DataLoader  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise UnsupportedError("cowfreeze.integrations.torch needs PyTorch: pip install torch") from error
    if multiprocessing.parent_process() is not None:
        raise CowfreezeError(
            "data_loader() was called in a worker of multiprocessing, where freezing copies the dataset: make the "
            "loader in the process that iterates over it"
        )
    share(dataset, warmup=warmup)
    if options.get("num_workers", 0) > 0 and cowfreeze.supported:
        options["multiprocessing_context"] = "fork"
    return DataLoader(dataset, **options)
