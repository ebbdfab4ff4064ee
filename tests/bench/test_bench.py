"""The parts of `cowfreeze bench`: plan, results, tables, verdicts, peers, in this process."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cowfreeze._errors import CowfreezeError
from cowfreeze.bench import runner
from cowfreeze.bench.cases import CASES
from cowfreeze.bench.cases.app import load_case, load_function
from cowfreeze.bench.cases.base import deep
from cowfreeze.bench.cases.forking import steps
from cowfreeze.bench.cases.reader import visit
from cowfreeze.bench.modes import MODES
from cowfreeze.bench.modes.serialized import SerializedList, SharedBlock, in_one_buffer
from cowfreeze.bench.report.metrics import MEMORY, METRICS, TIME
from cowfreeze.bench.report.results import FORMAT, BenchResult, Cell, Row, load, save
from cowfreeze.bench.report.tables import compare_text, full_text, markdown
from cowfreeze.bench.report.verdicts import conclusions, warnings
from cowfreeze.bench.runner import choose, default_cases, make_plan

MIB = 1 << 20


def cell(mode: str, number: int = 0, **changes: Any) -> Cell:
    fields: dict[str, Any] = {
        "case": "records",
        "mode": mode,
        "round": number,
        "size": 1000,
        "workers": 4,
        "values": {"copied_max": 100.0 * MIB, "startup_bytes": 1.0 * MIB, "read_worker_seconds": 1.0},
        "content": (1, 2, 3, 4),
    }
    return Cell(**{**fields, **changes})


def result(*cells: Cell, **changes: Any) -> BenchResult:
    fields: dict[str, Any] = {
        "command": "cowfreeze bench records",
        "machine": {"machine": "test machine", "python": "3.x"},
        "cells": cells,
        "planned": len(cells),
        "rounds": 3,
        "seconds": 1.0,
        "seed": 7,
    }
    return BenchResult(**{**fields, **changes})


def three(mode: str, *copied: float | None) -> list[Cell]:
    return [cell(mode, number, values={"copied_max": value}) for number, value in enumerate(copied)]


# --- cases


@pytest.mark.parametrize("name", [name for name in CASES if name != "imports"])
def test_a_case_builds_the_same_data_twice(name: str) -> None:
    case = CASES[name]
    assert case.build(20) == case.build(20)


@pytest.mark.parametrize("name", ["ucd", "records", "tuples", "coco", "loop", "bigdict"])
def test_a_case_has_the_size_that_was_asked_for(name: str) -> None:
    assert len(CASES[name].build(37)) == 37


@pytest.mark.parametrize("name", ["records", "tuples", "coco"])
def test_every_element_is_read(name: str) -> None:
    data = CASES[name].build(30)
    whole, less = deep(data), deep(data[:-1])
    assert whole[0] > less[0]
    assert whole[1] + whole[2] > less[1] + less[2]


def test_bytes_each_is_an_upper_bound_and_no_fantasy() -> None:
    """A prediction far above the truth would refuse what fits, one below it would let it die."""
    import tracemalloc

    for name in ("ucd", "records", "tuples", "coco", "loop", "bigdict", "exit"):
        case, size = CASES[name], 3000
        tracemalloc.start()
        data = case.build(size)
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert used <= case.bytes_each * size * 1.1, name
        assert case.bytes_each * size < used * 4, name
        del data


def test_imports_reads_the_same_modules_whatever_a_mode_imports() -> None:
    # hugepages has a module of its own, which once made its figures incomparable.
    import cowfreeze.bench.modes.hugepages  # noqa: F401

    names = {module.__name__ for module in CASES["imports"].build(3)}
    assert "sys" in names and not [name for name in names if name.startswith("cowfreeze")]


def test_the_steps_of_the_curve_double() -> None:
    assert steps(1024) == [0, 128, 256, 512, 1024]
    assert steps(1000) == [0, 128, 256, 512]
    assert steps(64) == [0, 64]


class Dressed:
    """Says that it is a list, as packed containers do."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return list

    def __iter__(self) -> Any:
        return iter([1, "two", {"three": 3.0}])


def test_a_container_that_says_it_is_a_list_is_read_as_one() -> None:
    assert visit(iter([Dressed()])) == visit(iter([[1, "two", {"three": 3.0}]]))


# --- peers


def test_a_serialized_list_reads_as_its_original() -> None:
    data = CASES["records"].build(50)
    view = in_one_buffer(data)
    assert [*view] == data
    assert view[7] == data[7]
    assert view[7] is not view[7]
    assert deep(view) == deep(data)
    with pytest.raises(IndexError):
        view[50]


def test_a_shared_block_reads_as_its_original_and_goes() -> None:
    data = CASES["tuples"].build(50)
    block = SharedBlock(data)
    name = Path("/dev/shm") / block._block.name.lstrip("/")
    try:
        assert type(block.list) is SerializedList
        assert [*block.list] == data
        assert name.exists()
    finally:
        block.close()
    assert not name.exists()


# --- plan


def test_every_round_has_every_cell_and_the_order_is_drawn() -> None:
    plan = make_plan(["records", "loop"], [*MODES], 3, 10, 2, seed=5)
    expected = {(case, mode) for case in ("records", "loop") for mode in MODES}
    for number in range(3):
        turn = [(planned.case, planned.mode) for planned in plan.cells if planned.round == number]
        assert len(turn) == len(expected)
        assert set(turn) == expected
    assert plan.cells == make_plan(["records", "loop"], [*MODES], 3, 10, 2, seed=5).cells
    orders = {
        tuple((planned.case, planned.mode) for planned in plan.cells if planned.round == number) for number in range(3)
    }
    assert len(orders) == 3


def test_a_mode_that_makes_no_sense_is_planned_with_its_reason() -> None:
    plan = make_plan(["bigdict"], ["none", "serialized"], 1, 10, None, seed=1)
    reasons = {planned.mode: planned.reason for planned in plan.cells}
    assert reasons["none"] is None
    assert "lists only" in (reasons["serialized"] or "")
    assert {planned.workers for planned in plan.cells} == {5}


def test_too_little_memory_is_told_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "available_memory", lambda: 1000 * MIB)
    with pytest.raises(CowfreezeError, match=r"too little memory for records: 500,000 .*--size, at most [\d,]+") as caught:
        make_plan(["records"], ["none"], 1, None, 4, seed=1)
    fits = int(str(caught.value).rpartition("at most ")[2].rstrip(")").replace(",", ""))
    make_plan(["records"], ["none"], 1, fits, 4, seed=1)
    with pytest.raises(CowfreezeError):
        make_plan(["records"], ["none"], 1, fits * 11 // 10, 4, seed=1)


def test_bigdict_takes_what_fits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "available_memory", lambda: 2000 * MIB)
    plan = make_plan(["bigdict"], ["none"], 1, None, None, seed=1)
    assert 1_000_000 < plan.cells[0].size < 10_000_000
    assert "instead of 30,000,000" in plan.notes[0]
    with pytest.raises(CowfreezeError, match="too little memory for bigdict"):
        make_plan(["bigdict"], ["none"], 1, 30_000_000, None, seed=1)


def test_unknown_names_are_told_with_what_there_is() -> None:
    with pytest.raises(CowfreezeError, match=r"no case 'recrods'; there are: ucd, records"):
        choose(["recrods"], CASES, "case")
    assert choose(["loop", "ucd", "loop"], CASES, "case") == ["ucd", "loop"]
    assert set(default_cases()) < set(CASES)


def test_the_users_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_for_bench.py").write_text("def make():\n    return [1, [2]]\ndef work(data):\n    data[1][0]\nx = 1\n")
    (tmp_path / "broken_for_bench.py").write_text("import nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    case = load_case("shop_for_bench:make", "shop_for_bench:work")
    assert case.read is not None
    assert case.read(case.build(0)) == (0, 0, 0, 0)
    assert load_case("shop_for_bench:make", None).read is deep
    for text, expected in (
        ("shop_for_bench", "package.module:function"),
        ("shop_for_bench:x", "has no function x"),
        ("shop_for_bench:missing", "has no function missing"),
        ("broken_for_bench:make", "does not import: ModuleNotFoundError"),
        ("no_such_module_anywhere:make", "does not import"),
    ):
        with pytest.raises(CowfreezeError, match=expected):
            load_function(text, "--app")


# --- results


def test_a_median_with_an_unknown_round_is_unknown() -> None:
    row = Row("records", "none", tuple(three("none", 10.0, 30.0, 20.0)))
    assert row.median("copied_max") == 20
    assert row.spread("copied_max") == 1
    row = Row("records", "none", tuple(three("none", 10.0, None, 20.0)))
    assert row.median("copied_max") is None
    assert row.has("copied_max")
    assert not row.has("frozen_copied_pages")


def test_results_survive_the_file(tmp_path: Path) -> None:
    before = result(
        cell("none"), cell("pack", reason="not there"), cell("heap", error="it broke"),
        cell("hugepages", case="fork", points=((1.0, 2.0, 3.0),), exit_statuses=(0,), notes=("a",), reasons=("b",)),
    )  # fmt: skip
    path = str(tmp_path / "out.json")
    save(before, path)
    assert load(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_the_file_is_what_pyperf_reads(tmp_path: Path) -> None:
    """Its rules: a name and a unit it knows, and runs with values above 0."""
    path = tmp_path / "out.json"
    zero = [cell("freeze", number, values={"copied_max": 0.0, "uss": 5.0}) for number in range(2)]
    save(result(*zero, cell("none"), cell("pack", reason="no")), str(path))
    document = json.loads(path.read_text())
    assert document["version"] == "1.0"
    names = {entry["metadata"]["name"]: entry for entry in document["benchmarks"]}
    assert set(names) == {
        "records/freeze/uss", "records/none/copied_max", "records/none/startup_bytes",
        "records/none/read_worker_seconds",
    }  # fmt: skip
    assert [run["values"] for run in names["records/freeze/uss"]["runs"]] == [[5.0], [5.0]]
    assert names["records/none/copied_max"]["metadata"]["unit"] == "byte"
    assert names["records/none/read_worker_seconds"]["metadata"]["unit"] == "second"
    pyperf = pytest.importorskip("pyperf")
    assert len(pyperf.BenchmarkSuite.load(str(path))) == 4


@pytest.mark.parametrize(
    ("text", "expected"), [("{", "is not JSON"), ("[]", "is no result"), ('{"version": "1.0"}', "is no result")]
)
def test_a_file_that_is_none(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(CowfreezeError, match=expected):
        load(str(path))
    with pytest.raises(CowfreezeError, match="cannot read"):
        load(str(tmp_path / "missing.json"))


# --- words


def test_the_conclusion_names_the_best_live_peer_and_both_sums() -> None:
    def values(copied: float) -> dict[str, float | None]:
        return {"copied_max": copied * MIB, "startup_bytes": 1.0 * MIB}

    cells = [cell(mode, values=values(size)) for mode, size in
             (("none", 300), ("gc.freeze", 250), ("cinderx", 200), ("serialized", 1), ("freeze", 0.1))]  # fmt: skip
    (text,) = conclusions(result(*cells))
    assert "freeze, 200 MiB" in text
    assert "(cinderx): 2,000 times fewer bytes" in text
    assert "with what the bare fork copies, 183 times fewer" in text
    worse = [cell("none", values=values(10)), cell("freeze", values=values(20))]
    (text,) = conclusions(result(*worse))
    assert "2.0 times more bytes" in text


def test_warnings_follow_the_figures() -> None:
    quiet = result(*three("none", 100.0, 101.0, 102.0))
    assert not [*warnings(quiet)]
    noisy = result(*three("none", 100.0, 101.0, 110.0))
    assert [*warnings(noisy)] == ["spread above 5%: copied, max in 1 row, most in records/none (10%)"]
    texts = [*warnings(result(cell("none"), planned=9, rounds=1, interrupted=True))]
    assert texts[0].startswith("interrupted: 1 of 9")
    assert texts[1].startswith("only 1 round:")
    other = result(cell("none"), cell("freeze", content=(1, 2, 3, 5)))
    assert any("did not all read the same data" in text for text in warnings(other))


def test_tables_show_reasons_and_unknown_and_never_leave_a_mode_out() -> None:
    cells = (
        cell("none"),
        cell("pack", reason="this one has no pack()", values={}),
        cell("heap", values={"copied_max": None, "startup_bytes": 0.0}),
        cell("cinderx", error="it broke", values={}),
        cell("none", case="fork", points=((1e6, 0.001, 0.002), (1e9, 0.1, 0.2)), values={}),
    )
    for text in (full_text(result(*cells)), markdown(result(*cells))):
        assert "cowfreeze bench records" in text
        assert "test machine" in text
        for expected in ("this one has no pack()", "failed: it broke", "100 MiB", "unknown", "954 MiB", "100.0 ms"):
            assert expected in text, expected
        for mode in ("none", "pack", "heap", "cinderx"):
            assert mode in text
    assert "| heap | unknown | 0 B |" in markdown(result(*cells))


def test_compare_tells_what_is_more_than_noise() -> None:
    before = result(*three("none", 100.0, 101.0, 102.0), *three("freeze", 50.0, 60.0, 70.0), cell("heap"))
    after = result(*three("none", 10.0, 10.1, 10.0), *three("freeze", 60.0, 60.0, 72.0), cell("pack"))
    text = compare_text(before, after, ("a", "b"))
    assert "records/none" in text
    assert "10 times better" in text
    assert "records/freeze" not in text
    assert "1 figures differ by no more" in text
    assert "records/heap: only in a" in text
    assert "records/pack: only in b" in text


def test_compare_tells_what_could_not_be_compared() -> None:
    def failed(*modes: str) -> BenchResult:
        return result(*three("none", 1.0, 1.0, 1.0), *(cell(mode, values={}, error="it broke") for mode in modes))

    before = result(*three("none", 1.0, 1.0, 1.0), *three("freeze", 1.0, 1.0, 1.0), cell("heap", values={}, reason="no"))
    text = compare_text(before, failed("freeze", "heap"), ("a", "b"))
    assert "note: records/freeze: not compared: failed: it broke in b" in text
    assert "note: records/heap: not compared: no in a; failed: it broke in b" in text
    known = result(*three("none", 1.0, 1.0, 1.0))
    part = dataclasses.replace(known, cells=tuple(dataclasses.replace(one, values={}) for one in known.cells))
    lost = compare_text(known, part, ("a", "b"))
    assert "is unknown in b" in lost and "is unknown in a" not in lost


@pytest.mark.parametrize("part", [{}, {"cells": [3]}, {"cells": None}])
def test_a_damaged_result_is_named(tmp_path: Path, part: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"cowfreeze": {"format": FORMAT, **part}}))
    with pytest.raises(CowfreezeError, match=r"a\.json is damaged"):
        load(str(tmp_path / "a.json"))


def test_every_column_exists() -> None:
    assert set(MEMORY) | set(TIME) <= set(METRICS)
    shown = {METRICS[name].title for name in (*MEMORY, *TIME)}
    assert len(shown) == len(MEMORY) + len(TIME)
    draw = random.Random(1)
    for metric in METRICS.values():
        assert metric.cell(None) == "unknown"
        assert metric.cell(draw.random() * 1000)


def test_a_chart_needs_matplotlib_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cowfreeze.bench.report import chart

    monkeypatch.setattr(chart.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CowfreezeError, match=r"cowfreeze\[plot\]"):
        chart.check(str(tmp_path / "a.png"))


def test_a_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from cowfreeze.bench.report import chart

    points = ((1e6, 0.001, 0.002), (1e9, 0.1, 0.2))
    path = tmp_path / "a.png"
    chart.check(str(path))
    with pytest.raises(CowfreezeError, match="no chart can be written as doc"):
        chart.check(str(tmp_path / "a.doc"))
    cells = [cell("none"), cell("freeze", values={"copied_max": 5e4, "startup_bytes": 5e5}), cell("pack", reason="no")]
    chart.draw(result(*cells, cell("none", case="fork", points=points, values={})), str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
