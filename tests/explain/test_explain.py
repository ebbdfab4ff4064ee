"""explain: planted writes are named, unplanted ones are not, and pages add up.

What freezes runs in tests/explain/cases_plants.py, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from helpers.compiled import SANITIZERS, build, run_built

import cowfreeze
from cowfreeze import _core
from cowfreeze._explain.paths import Root, Steps, path_text, short_repr

SCRIPT = Path(__file__).with_name("cases_plants.py")


def plants(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    return plants()


def causes(explanation: dict[str, Any], type_: str, field: str) -> list[dict[str, Any]]:
    return [c for c in explanation["causes"] if (c["type"], c["field"]) == (type_, field)]


def owners(explanation: dict[str, Any], type_: str, field: str) -> str:
    found = causes(explanation, type_, field)
    assert found, explanation["text"]
    return " ".join(f"{e['path']} {e['owner']} {e['detail']}" for c in found for e in c["examples"])


# --- planted writes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "type_", "field", "owner"),
    [
        ("count", "__main__.Neighbour", "reference count", "neighbour"),
        ("append", "list", "list contents", "numbers"),
        ("insert", "dict", "dict contents", "table"),
        ("hash", "str", "cached hash", "text"),
        ("lru", "functools._lru_cache_wrapper", "contents", "cached"),
        ("attribute", "__main__.Config", "instance values", "config"),
        ("random", "random.Random", "contents", "generator"),
    ],
)
def test_a_planted_write_is_named(
    planted: dict[str, Any], plant: str, type_: str, field: str, owner: str
) -> None:
    explanation = planted[plant]
    if plant == "attribute" and sys.version_info < (3, 11):
        type_, field, owner = "dict", "dict contents", "config"
    if plant == "attribute" and not causes(planted[plant], type_, field):
        assert sys.version_info < (3, 12), planted[plant]["text"]
        type_ = "dict"  # 3.11: a __dict__ that was asked for takes the values over
    assert owner in owners(explanation, type_, field).split() or f"{owner}.__dict__" in owners(
        explanation, type_, field
    )
    # The same write is in no other plant: the tool does not see it everywhere.
    for name, other in planted.items():
        if name != plant:
            assert not any(
                e["path"] == owner
                for c in causes(other, type_, field)
                for e in c["examples"]
                if not c["same_bytes"]
            )


def test_a_count_that_went_up_and_down_is_likely(planted: dict[str, Any]) -> None:
    found = causes(planted["count again"], "__main__.Neighbour", "reference count")
    assert [cause["same_bytes"] for cause in found] == [True]
    assert found[0]["words"] == 0 and found[0]["pages"] == 1


def test_code_that_runs_first_in_the_worker(planted: dict[str, Any]) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("3.10 keeps its inline caches outside of code objects")
    fields = ["inline cache or counter", "code contents"]  # 3.11 counts warm-up in a field
    text = " ".join(
        owners(planted["code"], "code", f) for f in fields if causes(planted["code"], "code", f)
    )
    assert "first_called_in_the_worker" in text
    if sys.version_info >= (3, 12):
        assert "planted.py:" in text


def test_attribute_name(planted: dict[str, Any]) -> None:
    if sys.version_info < (3, 13):
        pytest.skip("values lie in the instance from 3.13 on")
    assert ".count" in owners(planted["attribute"], "__main__.Config", "instance values").split()


def test_malloc_beside_frozen_data(planted: dict[str, Any]) -> None:
    explanation = planted["malloc"]
    pages = {c["field"]: c["pages"] for c in explanation["causes"] if c["type"] == "malloc"}
    assert pages.get("free chunk used", 0) > 0 and pages.get("chunk header", 0) > 0, pages
    quiet = [c["pages"] for c in planted["count"]["causes"] if c["type"] == "malloc"]
    assert sum(quiet) < sum(pages.values())


def test_collection_without_freeze() -> None:
    explanation = plants("collect")["collect"]
    found = {c["type"]: c for c in explanation["causes"] if c["field"] == "GC header"}
    assert {"list", "dict"} <= set(found), explanation["text"]
    assert explanation["causes"][0]["field"] == "GC header"
    assert "data[" in owners(explanation, "list", "GC header")
    assert "gc.freeze()" in found["dict"]["advice"]


def test_pages_add_up(planted: dict[str, Any]) -> None:
    for explanation in planted.values():
        ranks = ("object_pages", "allocator_pages", "system_pages", "unknown_pages")
        assert sum(explanation[rank] for rank in ranks) == explanation["pages"]
        assert explanation["pages"] == explanation["copied_pages"] == explanation["main"]
        assert explanation["unlisted"] == 0
        for cause in explanation["causes"]:
            assert 0 <= cause["alone"] <= cause["pages"] <= explanation["pages"]
            assert (cause["words"] == 0) == (cause["same_bytes"] or cause["field"] == "unreadable")


# --- the API --------------------------------------------------------------------------

DATA = [{"id": number, "tags": [f"a{number}", f"b{number}"]} for number in range(20000)]
HELD: list[Any] = []


def hold(index: int) -> None:
    for record in DATA:
        HELD.append(record)
        HELD.extend(record["tags"])


def touch(index: int) -> None:
    DATA[17]["tags"].append("c")


def test_nearly_all_pages_have_an_owner() -> None:
    explanation = cowfreeze.fork_workers(hold, 1, explain=True).explain()
    assert explanation.pages > 500
    assert explanation.named_ratio is not None and explanation.named_ratio >= 0.95
    named = {(c.type, c.field, c.same_bytes): c for c in explanation.causes}
    counts = named["dict", "reference count", False]
    # Every dict of DATA and nothing like as many others; young ones are not always reached.
    assert 19000 <= counts.words <= 22000
    assert counts.path is not None and "DATA[" in counts.path
    assert "unknown" in str(explanation)


def test_path_of_one_write() -> None:
    explanation = cowfreeze.fork_workers(touch, 1, explain=True).explain(top=1000)
    paths = {
        example.path
        for cause in explanation.causes
        if (cause.type, cause.field) == ("list", "list contents")
        for example in cause.examples
    }
    assert any(path and path.endswith("DATA[17]['tags']") for path in paths), paths


def test_explain_of_several_workers() -> None:
    result = cowfreeze.fork_workers(lambda index: hold(index) if index == 1 else None, 2, explain=True)
    assert result.explain().worker == 1
    assert result.explain(worker=0).pages < result.explain(worker=1).pages
    assert [e.worker for e in result.explanations] == [0, 1]
    with pytest.raises(ValueError, match="give one of 0, 1"):
        result.explain(worker=7)
    json.dumps(result.to_dict())


def test_top_limits_the_table_and_says_so() -> None:
    explanation = cowfreeze.fork_workers(hold, 1, explain=True).explain(top=1)
    assert len([c for c in explanation.shown if c.kind != "unknown"]) == 1
    assert "more causes" in str(explanation)
    assert explanation.to_dict()["more_causes"] == len(explanation.causes) - len(explanation.shown)
    with pytest.raises(ValueError):
        cowfreeze.fork_workers(touch, 1, explain=True).explain(top=0)


def test_nothing_is_explained_unless_asked() -> None:
    result = cowfreeze.fork_workers(touch, 1)
    assert result.explanations == ()
    with pytest.raises(cowfreeze.CowfreezeError, match="explain=True"):
        result.explain()
    with pytest.raises(cowfreeze.PagesCopied, match="explain=True"):
        cowfreeze.fork_workers(hold, 1).assert_shared()


def test_assert_shared_names_causes_with_advice() -> None:
    with pytest.raises(cowfreeze.PagesCopied) as caught:
        cowfreeze.assert_shared(hold, 1)
    text = str(caught.value)
    assert "Main causes in worker 0" in text and "reference count" in text
    assert "freeze what leads to" in text or "counts every reference" in text
    assert caught.value.result is not None and caught.value.result.explain().pages > 500
    assert cowfreeze.assert_shared(lambda index: None, 1, max_copied="1 GiB").explanations == ()


def test_worker_that_died_has_a_reason() -> None:
    result = cowfreeze.fork_workers(lambda index: os._exit(3), 1, explain=True)
    explanation = result.explain()
    assert explanation.pages == 0 and explanation.named_ratio is None
    assert "ended before" in explanation.notes[0]


def test_memory_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cowfreeze._workers.find_causes.open_memory", forbidden)
    result = cowfreeze.fork_workers(touch, 1, explain=True)
    assert result.workers[0].copied_pages is not None
    assert "ptrace_scope" in result.explain().notes[0]


def test_no_memory_for_the_index_costs_nobody_a_result() -> None:
    for n in range(1, 12):
        _core.fail_allocation(n)
        try:
            result = cowfreeze.fork_workers(lambda index: index, 1, explain=True)
        finally:
            _core.fail_allocation(-1)
        assert result.results == (0,)
        assert result.explain().notes or result.explain().pages
    mapped = _core.bookkeeping_bytes()
    cowfreeze.fork_workers(touch, 1, explain=True)
    assert _core.bookkeeping_bytes() == mapped


# --- texts ----------------------------------------------------------------------------


class Loud:
    def __repr__(self) -> str:
        raise AssertionError("user code ran")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("user code ran")

    __hash__ = object.__hash__


class Slots:
    __slots__ = ("left",)

    def __init__(self, left: object) -> None:
        self.left = left


class Plain:
    def __init__(self, left: object) -> None:
        self.left = left


def path(name: str, *chain: Any) -> str | None:
    return path_text([Root(name, chain[0])], 0, list(chain), Steps([list(chain)]))


def test_paths() -> None:
    loud = Loud()
    data = {"a": [Loud(), loud]}
    assert path("data", data, data["a"], loud) == "data['a'][1]"
    assert path("slots", (s := Slots(loud)), loud) == "slots.left" and s
    plain = Plain(loud)
    if sys.version_info >= (3, 11):
        assert path("plain", plain, loud) == "plain.left"
    assert path("plain", plain, plain.__dict__, loud) == "plain.left"
    module = types.ModuleType("made")
    module.value = data  # type: ignore[attr-defined]
    assert path("made", module, module.__dict__, data) == "made.value"
    keyed = {loud: 1}
    assert path("keyed", keyed, loud) == f"keyed key <{__name__}.Loud object>"


def test_short_repr_runs_no_user_code() -> None:
    assert short_repr(Loud()) == f"{__name__}.Loud object"
    assert short_repr([Loud()]) == "list of 1"
    assert short_repr("x" * 1000).endswith("...") and len(short_repr("x" * 1000)) < 70
    assert short_repr(10**1000) == "int of 3,322 bits"
    assert short_repr(Loud) == f"class {__name__}.Loud"


# -- tables of objects ---------------------------------------------------------


@pytest.mark.parametrize("flags", [[], SANITIZERS], ids=["plain", "sanitizers"])
def test_tables_are_found_by_address(tmp_path: Path, flags: list[str]) -> None:
    program = build(tmp_path / "tables", SCRIPT.with_name("tables.c"), ["explain/table_index", "base/mem"], flags)
    done = run_built(program)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr
