"""What check_preload says: preloads.py MODULE..., of which some cannot be imported. One line each."""

from __future__ import annotations

import multiprocessing
import sys

import cowfreeze
from cowfreeze.integrations.multiprocessing import check_preload, forkserver_context


def say(question: str, context: object, *modules: str) -> None:
    try:
        check_preload(context, *modules)  # type: ignore[arg-type]
        print(f"{question}: shared")
    except cowfreeze.CowfreezeError as error:
        print(f"{question}: {error}")


def freeze_late() -> None:
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cowfreeze.freeze()
    print("late:", *(str(warning.message) for warning in caught), flush=True)


if __name__ == "__main__":
    context = forkserver_context(*sys.argv[1:])
    say("all", context)
    say("first", context, sys.argv[1])
    try:
        forkserver_context("shop")
    except cowfreeze.CowfreezeError as error:
        print(f"second: {error}")
    process = multiprocessing.get_context("fork").Process(target=freeze_late)
    process.start()
    process.join()
