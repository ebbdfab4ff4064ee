"""The operations that cases_faults.py runs. Each function prepares one in the process that forks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from cases_faults import Operation, shim

import cowfreeze
from cowfreeze._workers.worker import Worker


class Point:
    def __init__(self, x: int) -> None:
        self.x, self.name = x, f"point {x}"


def some_data(n: int = 200) -> dict[str, Any]:
    return {
        "points": [Point(i) for i in range(n)],
        "names": {f"name {i}": (i, float(i), str(i)) for i in range(n)},
        "nested": [[i, [i + 1000, {"a": i}]] for i in range(n)],
    }


def picture(data: dict[str, Any]) -> str:
    """A text of all that is reached, for comparing."""
    return repr([(p.x, p.name) for p in data["points"]]) + repr(data["names"]) + repr(data["nested"])


def mortal(data: dict[str, Any]) -> bool:
    inside = [data, data["points"], data["points"][5], data["names"], data["nested"][7][1]]
    return not any(cowfreeze.is_frozen(obj) for obj in inside)


def freeze() -> Operation:
    """With roots: after an exception nothing is frozen, and no count has changed."""
    data = some_data()
    before = picture(data)
    counts = [sys.getrefcount(data["points"]), sys.getrefcount(data["points"][5])]

    def check(outcome: str, value: Any) -> str:
        if picture(data) != before:
            return "the data has changed"
        if outcome == "returned":
            return "" if value.objects > 1000 else f"only {value.objects} objects frozen"
        if not mortal(data):
            return "something is frozen after an exception"
        now = [sys.getrefcount(data["points"]), sys.getrefcount(data["points"][5])]
        return "" if now == counts else f"reference counts went from {counts} to {now}"

    def run() -> Any:
        # Frozen before: then there is nothing to do, and the figures are small.
        report = cowfreeze.freeze(data, allow_forked=True)
        return report if report.objects else Full

    class Full:
        objects = 10_000

    return Operation(run, check, kept=("bookkeeping", "labels"))


def freeze_heap() -> Operation:
    """Without roots: the whole heap."""
    data = some_data()
    before = picture(data)

    def check(outcome: str, value: Any) -> str:
        if picture(data) != before:
            return "the data has changed"
        if outcome != "returned" and not mortal(data):
            return "something is frozen after an exception"
        return ""

    return Operation(lambda: cowfreeze.freeze(allow_forked=True), check, kept=("bookkeeping", "labels", "collector"))


def pack() -> Operation:
    source = {"names": some_data()["names"], "list": list(range(3000)), "set": {str(i) for i in range(500)}}
    before = repr(source["names"])
    counts = [sys.getrefcount(source["list"]), sys.getrefcount(source["names"])]

    def check(outcome: str, value: Any) -> str:
        if repr(source["names"]) != before:
            return "the source has changed"
        if outcome == "returned":
            return "" if value == source else "the copy differs"
        now = [sys.getrefcount(source["list"]), sys.getrefcount(source["names"])]
        return "" if now == counts else f"reference counts went from {counts} to {now}"

    return Operation(lambda: cowfreeze.pack(source), check, kept=("mappings", "bookkeeping"))


def clone() -> Operation:
    source = {"names": some_data()["names"], "nested": some_data()["nested"]}
    before = repr(source)
    cowfreeze.clone(source)

    def check(outcome: str, value: Any) -> str:
        if repr(source) != before:
            return "the source has changed"
        return "the copy differs" if outcome == "returned" and value != source else ""

    return Operation(lambda: cowfreeze.clone(source), check)


def _workers(run: Callable[[], Any]) -> Operation:
    """Workers may end as failed; what they report must be what happened."""
    data = some_data()
    before = picture(data)

    def check(outcome: str, value: Any) -> str:
        if picture(data) != before:
            return "the data has changed"
        if outcome != "returned":
            return ""
        text = str(value)
        for worker in value.workers:
            if worker.outcome == "returned" and worker.result != 4950:
                return f"a wrong result: {worker.result!r}"
            if worker.outcome != "returned" and not worker.status:
                return f"no word about {worker.outcome}"
            if worker.copied_pages is None and not worker.reasons and worker.outcome == "returned":
                return f"unknown figures without a reason: {text}"
        return ""

    return Operation(run, check)


def target(index: int) -> int:
    return sum(list(range(100)))


def fork_workers() -> Operation:
    cowfreeze.fork_workers(target, 2)
    return _workers(lambda: cowfreeze.fork_workers(target, 2))


def _explained(target: Callable[[int], Any], shared: Any, **options: bool) -> Operation:
    cowfreeze.freeze(shared)

    def run() -> Any:
        result = cowfreeze.fork_workers(target, 1, **options)
        str(result.explain())
        return result

    run()
    return _workers(run)


def explain() -> Operation:
    shared = some_data()

    def writing(index: int) -> int:
        shared["points"][index].x = -1
        return target(index)

    return _explained(writing, shared, explain=True)


def trapped_workers() -> Operation:
    return _explained(target, some_data(), trap=True)


def _trap(backend: str | None) -> Operation:
    shared = some_data()
    cowfreeze.freeze(shared)
    numbers = [0]

    def run() -> Any:
        with cowfreeze.trap(backend=backend) as trapped:
            numbers[0] += 1
            shared["points"][3].x = numbers[0]
        return trapped

    run()

    def check(outcome: str, value: Any) -> str:
        if shared["points"][3].x != numbers[0]:
            return "a write was lost"
        if outcome == "returned":
            str(value)
        return ""

    return Operation(run, check)


def trap_mprotect() -> Operation:
    return _trap("mprotect")


def trap_any() -> Operation:
    return _trap(None)


def broken_channel() -> Operation:
    """The parent's reading of a worker's words fails, nothing else."""
    parent = os.getpid

    def run() -> Any:
        owner = parent()
        receive = Worker.receive

        def only_here(worker: Worker) -> bool:
            if parent() == owner:
                shim.fault_resume()
            try:
                return receive(worker)
            finally:
                shim.fault_pause()

        shim.fault_pause()
        Worker.receive = only_here  # type: ignore[method-assign]
        try:
            return cowfreeze.fork_workers(target, 2)
        finally:
            Worker.receive = receive  # type: ignore[method-assign]

    def check(outcome: str, value: Any) -> str:
        if outcome != "returned":
            return f"fork_workers raised {outcome}"
        ends = sorted(worker.outcome for worker in value.workers)
        if "returned" not in ends or not set(ends) <= {"returned", "result lost", "vanished"}:
            return str(ends)
        lost = [worker.status for worker in value.workers if worker.outcome != "returned"]
        return "" if all("could not read from it" in status for status in lost) else str(lost)

    return Operation(run, check)


def _planted(plant: Callable[[], Any]) -> Operation:
    """An operation that is wrong when memfd_create fails: what the driver must see."""

    def run() -> None:
        try:
            os.close(os.memfd_create("plant"))
        except OSError:
            plant()

    return Operation(run, lambda outcome, value: "")


def planted_descriptor() -> Operation:
    return _planted(lambda: os.dup(0))


def planted_child() -> Operation:
    def plant() -> None:
        if os.fork() == 0:
            os._exit(0)

    return _planted(plant)


def planted_crash() -> Operation:
    return _planted(os.abort)


def planted_change() -> Operation:
    changed: list[int] = []
    operation = _planted(lambda: changed.append(1))
    operation.check = lambda outcome, value: "changed" if changed else ""
    return operation


OPERATIONS: dict[str, Callable[[], Operation]] = {
    "freeze": freeze,
    "freeze_heap": freeze_heap,
    "pack": pack,
    "clone": clone,
    "fork_workers": fork_workers,
    "explain": explain,
    "trapped_workers": trapped_workers,
    "trap_mprotect": trap_mprotect,
    "trap_any": trap_any,
    "broken_channel": broken_channel,
    "planted_descriptor": planted_descriptor,
    "planted_child": planted_child,
    "planted_crash": planted_crash,
    "planted_change": planted_change,
}
