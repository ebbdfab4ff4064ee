"""The cases by name, in the order in which tables show them."""

from __future__ import annotations

from cowfreeze.bench.cases import coco, dataloader, ending, forking, imports, loop, records, tuples, ucd, web
from cowfreeze.bench.cases.base import Case

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        ucd.CASE,
        records.CASE,
        tuples.CASE,
        coco.CASE,
        loop.CASE,
        ending.BIGDICT,
        ending.EXIT,
        forking.CASE,
        web.CASE,
        dataloader.CASE,
        imports.CASE,
    )
}
