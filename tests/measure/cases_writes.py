"""Scenarios: the worker writes, and the others do what they like; kinds of memory."""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import random

from areas import (
    LIBC,
    PAGE,
    PAGES,
    Area,
    Report,
    Worker,
    exists,
    huge_bytes,
    judged,
    record_of,
    wait_for_go,
    wait_until,
)

from cowfreeze import _core

# ---- the worker writes, and the others do what they like -------------------------------------


def simple(options: argparse.Namespace, count: int = 700) -> Report:
    area = Area(options.huge)
    huge = huge_bytes(area)
    with _core.Witness() as witness:
        mine = area.some(1, count)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            return judged(area, witness, audit, area.addresses(mine))

        return {**Worker(worker).report(), "huge_bytes": huge}


def clean(options: argparse.Namespace) -> Report:
    return simple(options, count=0)


def everything(options: argparse.Namespace) -> Report:
    return simple(options, count=PAGES)


def parent_writes(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine[:350], 2)
            wait_for_go()
            area.write(mine[350:], 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        area.write(area.some(2, 900) + mine[::3], 3)
        process.go()
        area.write(area.some(3, 900) + mine[::5], 4)
        process.go()
        return process.report()


def parent_writes_during_scan(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            reports = [judged(area, witness, audit, area.addresses(mine)) for _ in range(8)]
            return max(reports, key=lambda r: r["false_positives"] + r["false_negatives"])

        process = Worker(worker)
        for page in area.some(2, PAGES):
            area.write([page], 3)
        return process.report()


def parent_writes_between_forks(options: argparse.Namespace, second: bool = False) -> Report:
    """Pages that the parent writes between the forks are not the witness's, and then not its own."""
    area = Area(options.huge)
    between = area.some(2, 500)
    # Some that the parent writes too, and that the worker copies itself all the same.
    mine = sorted(set(area.some(1, 700)) - set(between))
    with _core.Witness() as witness:
        area.write(between, 3)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        holder = _core.Witness() if second else None
        area.write(between, 4)
        area.write(area.some(3, 900), 5)
        process.go()
        report = process.report()
        if holder is not None:
            holder.close()
        return {**report, "between": len(between)}


def parent_writes_between_forks_second_witness(options: argparse.Namespace) -> Report:
    return parent_writes_between_forks(options, second=True)


def parent_unmaps(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        area.map.close()
        process.go()
        return process.report()


def owner_exits(options: argparse.Namespace) -> Report:
    """The process that made the memory ends for good; the one that forks goes on."""
    area = Area(options.huge)
    reading, writing = os.pipe()
    owner = os.getpid()
    if os.fork() != 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        area.map.close()
        os.write(writing, b"x")
        gone = wait_until(lambda: not exists(owner))
        process.go()
        return {**process.report(), "owner_gone": gone}


def parent_itself(options: argparse.Namespace) -> Report:
    """The parent asks what it wrote itself; the witness is its own child and does not blind it."""
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)
        area.write(mine, 2)
        return judged(area, witness, _core.WorkerAudit(witness), area.addresses(mine))


def siblings(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:

        def worker(seed: int) -> Report:
            audit = _core.WorkerAudit(witness)
            mine = area.some(seed, 500)
            area.write(mine, seed)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        workers = [Worker(lambda seed=seed: worker(seed)) for seed in (2, 3, 4)]  # type: ignore[misc]
        for process in workers:
            process.go()
        reports = [process.report() for process in workers]
        return max(reports, key=lambda r: r["false_positives"] + r["false_negatives"])


# ---- two measurings ------------------------------------------------------------------------


def given_back(options: argparse.Namespace) -> Report:
    """Pages are written and given back at random, before the first measuring and after it.

    The second counts the set that it finds without the set that the first found. Each round tells
    (what the set says, what the record says) for inherited memory and for the worker's own.
    """
    inherited = Area()
    rounds = []
    with _core.Witness() as witness:

        def worker(seed: int) -> Report:
            audit = _core.WorkerAudit(witness)
            pages = _core.PageList(40_000, False)
            choose = random.Random(seed)
            own: dict[Area, set[int]] = {inherited: set(), Area(fill=False): set()}

            def act(times: int) -> None:
                for _ in range(times):
                    area = choose.choice([*own])
                    start = choose.randrange(area.pages)
                    some = range(start, min(area.pages, start + choose.randrange(1500)))
                    if choose.random() < 0.5:
                        area.write(some, 2)
                        own[area] |= {*some}
                    elif some:
                        area.map.madvise(mmap.MADV_DONTNEED, some[0] * PAGE, len(some) * PAGE)
                        own[area] -= {*some}

            act(12)
            record_of(audit, pages)
            before = [set(found) for found in own.values()]
            act(choose.choice([0, 6, 12]))
            record = record_of(audit, pages, True)
            copied, new = (len(now - was) for now, was in zip(own.values(), before))
            return {"copied": [copied, record["copied_pages"]], "new": [new, record["new_pages"]]}

        for seed in range(40):
            rounds.append(Worker(lambda seed=seed: worker(seed)).report())  # type: ignore[misc]
    return {"rounds": rounds}


def too_much_before(options: argparse.Namespace) -> Report:
    """There is no room to note what the first measuring found."""
    area = Area()
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            pages = _core.PageList(100, False)
            area.write(range(300), 2)
            first = record_of(audit, pages)
            return {"first": first, "second": record_of(audit, pages, True)}

        return Worker(worker).report()


# ---- kinds of memory -----------------------------------------------------------------------


def memfd(options: argparse.Namespace, child: bool = False) -> Report:
    """A private mapping of a file: some pages the parent had written before the fork."""
    fd = os.memfd_create("area")
    os.ftruncate(fd, PAGES * PAGE)
    os.pwrite(fd, b"x" * (PAGES * PAGE // 2), 0)
    area = Area(fd=fd, fill=False)
    parents = area.some(5, 400)
    area.write(parents, 7)
    with _core.Witness() as witness:
        mine = area.some(1, 700) + parents[:50]

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            own = Area(fd=fd, fill=False)  # a mapping that the witness does not have: new pages
            own.write(range(200), 3)
            report = judged(area, witness, audit, area.addresses(mine))
            return {**report, "own": len(own.copied(witness))}

        return Worker(worker).report()


def zero_page(options: argparse.Namespace) -> Report:
    """Memory that was read but never written has no page that could be copied."""
    area = Area(fill=False)
    sum(area.map[page * PAGE] for page in range(area.pages))
    area.write(range(100), 1)
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            before = record_of(audit)
            area.write(range(50, 1000), 2)
            report = judged(area, witness, audit, area.addresses(range(50, 100)))
            return {**report, "new": report["record"]["new_pages"] - before["new_pages"]}

        return Worker(worker).report()


def new_memory(options: argparse.Namespace) -> Report:
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            before = record_of(audit)
            area = Area(pages=1000)
            after = record_of(audit)
            return {
                "before": before,
                "after": after,
                "copied_in_area": len(area.copied(witness)),
            }

        return Worker(worker).report()


def vast_hole(options: argparse.Namespace) -> Report:
    """64 GiB of reserved addresses with one page at the end."""
    size = 64 << 30
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    address = int(LIBC.mmap(None, size, 3, flags, -1, 0))
    last = address + size - PAGE
    ctypes.c_char.from_address(last).value = b"x"
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            ctypes.c_char.from_address(last).value = b"y"
            copied = _core.copied_addresses(witness)
            record = record_of(audit)
            inside = [a for a in copied if address <= a < address + size]
            return {"found": inside == [last], "record": record}

        return Worker(worker).report()


def frozen_pages(options: argparse.Namespace) -> Report:
    """Pages of frozen objects are written past the interpreter: each must be counted as frozen."""
    import cowfreeze

    data = [float(number) + 0.5 for number in range(200_000)]
    cowfreeze.freeze(data)
    pages = sorted({id(item) // PAGE for item in data})
    chosen = random.Random(1).sample(pages, 300)
    # The value of the first object that begins in each page; the last may reach into the next.
    first: dict[int, int] = {}
    for address in sorted(id(item) for item in data):
        first.setdefault(address // PAGE, address + 16)
    targets = [first[page] for page in chosen]
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            before = record_of(audit)
            for address in targets:
                ctypes.c_ubyte.from_address(address).value ^= 0
            after = record_of(audit)
            copied = {address // PAGE for address in _core.copied_addresses(witness)}
            return {"before": before, "after": after, "missed": len(set(chosen) - copied)}

        return Worker(worker).report()
