"""trap: planted writes are named by type, field and line; with both ways to see a write.

What freezes runs in tests/trap/, in processes of its own.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
from helpers.plugin import CHANGES, project, run
from helpers.trap import BACKENDS, line_with, need, result_of, scene

import cowfreeze
from cowfreeze import _core

pytest_plugins = ["pytester"]
PAGE = os.sysconf("SC_PAGE_SIZE")
IMMORTAL = sys.version_info >= (3, 12)


def written(made: dict[str, Any], function: str) -> list[dict[str, Any]]:
    return [w for w in made["writes"] if w["line"] is not None and w["line"].endswith(f" in {function}")]


# --- the ten plants -------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("plant", "type_", "field", "path"),
    [
        ("count", "__main__.Neighbour", "reference count", "neighbour"),
        ("append", "list", "list contents", "numbers"),
        ("insert", "dict", "dict contents", "table"),
        ("hash", "str", "cached hash", "text"),
        ("lru", "functools._lru_cache_wrapper", "contents", "cached"),
        ("attribute", "__main__.Config", "instance values", "config"),
        ("random", "random.Random", "contents", "generator"),
        ("collect", "list", "GC header", None),
        ("malloc", "malloc", "free chunk used", None),
    ],
)
def test_a_planted_write_has_its_line(
    backend: str, plant: str, type_: str, field: str, path: str | None
) -> None:
    need(backend)
    explanation = result_of("cases_plants.py", backend)[plant]
    if plant == "attribute" and sys.version_info < (3, 11):
        type_, field, path = "dict", "dict contents", "config.__dict__"
    line = f"cases_plants.py:{line_with('cases_plants.py', f'# plant: {plant}')} in plant_{plant}"
    found = [c for c in explanation["causes"] if (c["type"], c["field"]) == (type_, field)]
    assert found, explanation["text"]
    if path is None:
        assert line in [cause["line"] for cause in found], explanation["text"]
        return
    examples = [e for cause in found for e in cause["examples"] if e["path"] == path]
    assert examples, explanation["text"]
    if backend == "mprotect" and plant == "attribute" and sys.version_info < (3, 11):
        return  # the instance's dict is no frozen page of its own
    assert {example["line"] for example in examples} == {line}, explanation["text"]
    # The tool does not see this line everywhere.
    for name, other in result_of("cases_plants.py", backend).items():
        if name != plant:
            assert line not in [cause["line"] for cause in other["causes"]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_code_that_runs_first_in_the_worker_has_its_line(backend: str) -> None:
    need(backend)
    if sys.version_info < (3, 11):
        pytest.skip("3.10 keeps its inline caches outside of code objects")
    explanation = result_of("cases_plants.py", backend)["code"]
    # 3.11 counts warm-up in a field of the code, and the caller does it.
    expected = ("planted.py:", "cases_plants.py:") if sys.version_info < (3, 12) else ("planted.py:",)
    found = [
        example["line"]
        for cause in explanation["causes"]
        if cause["field"] in ("inline cache or counter", "code contents")
        for example in cause["examples"]
        if example["path"] == "function.__code__"
    ]
    assert found and all(line and line.startswith(expected) for line in found), explanation["text"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_is_said(backend: str) -> None:
    need(backend)
    for explanation in result_of("cases_plants.py", backend).values():
        said = any("perf events are not to be had" in note for note in explanation["notes"])
        assert said == (backend == "mprotect")


def test_most_pages_have_a_line() -> None:
    need("perf")
    explanation = result_of("cases_plants.py", "perf")["collect"]
    with_line = sum(c["pages"] for c in explanation["causes"] if c["line"] is not None)
    assert explanation["pages"] > 500
    assert with_line >= 0.9 * sum(c["pages"] for c in explanation["causes"])


# --- one write ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_noted_of_a_write(backend: str) -> None:
    made = scene("writes", backend)
    ids = made["ids"]
    blocks = [w for w in written(made, "write_block") if w["owner"] and w["owner"].startswith("b'cowf")]
    if IMMORTAL:
        (changed,) = [w for w in written(made, "change") if w["path"] == "data[12345]"]
        assert changed["type"] == "list" and changed["field"] == "list contents"
        assert 0 <= changed["address"] - ids["item"] < 64
        assert len(blocks) == 1
    else:  # the count of what is read on the way may be on the same page
        changed = written(made, "change")[0]
    block = next(w for w in blocks if w["field"] == "contents")
    assert block["old_value"] == int.from_bytes(b"cowfreez", sys.byteorder) or block["address"] % 8
    assert block["page"] == block["address"] // PAGE * PAGE
    assert ids["block"] < block["address"] <= ids["block"] + 2 * PAGE
    assert block["thread"] == ids["thread"]
    assert [frame["function"] for frame in block["stack"]][:2] == ["write_block", "writes"]
    assert block["stack"][0]["file"].endswith("cases_scenes.py") and block["stack_note"] is None
    assert made["lost"] == made["given_up"] == 0 and made["backend"] == backend
    assert f"cases_scenes.py:{changed['stack'][0]['line']} in change" in made["text"]
    assert changed["stack"][0]["line"] == line_with("cases_scenes.py", "# plant: change")


@pytest.mark.parametrize("backend", BACKENDS)
def test_reading_frozen_objects_is_not_noted(backend: str) -> None:
    made = scene("read_all", backend)
    noted = written(made, "read_all.<locals>.only_reads") + written(made, "only_reads")
    if IMMORTAL:
        # A page at the border of the graph may hold a mortal object, an iterator say.
        assert len(noted) <= 3
    elif backend == "mprotect":
        assert len(noted) > 10  # these count every reference; those pages were copied before


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_traps_one_after_the_other(backend: str) -> None:
    made = scene("twice", backend)
    assert written(made["first"], "change") and not written(made["first"], "write_block")
    assert written(made["second"], "write_block") and not written(made["second"], "change")


@pytest.mark.parametrize("backend", BACKENDS)
def test_deep_stack_and_other_alphabets(backend: str) -> None:
    made = scene("deep", backend)
    write = next(w for w in written(made, "write_block") if len(w["stack"]) == 12)
    assert "more frames" in write["stack_note"]
    assert write["stack"][1] == {"file": "/tmp/ünïcode/файл.py", "line": 2, "function": "größe_данные"}


def test_all_pages() -> None:
    made = scene("everything", "perf")
    line = f"cases_scenes.py:{line_with('cases_scenes.py', '# plant: fill')} in everything.<locals>.fill"
    if sys.version_info < (3, 11):
        line = line.replace("everything.<locals>.", "")  # 3.10 has no qualified names in code
    assert made["filled"].count(line) >= 7


def test_all_pages_where_perf_is_not_allowed() -> None:
    made = scene("everything", "mprotect")
    assert any("only pages with frozen objects" in note for note in made["notes"])


# --- arguments ------------------------------------------------------------------------


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="'frozen', 'all'"):
        cowfreeze.trap(pages="some")
    with pytest.raises(ValueError, match="'mprotect'"):
        cowfreeze.trap(backend="ptrace")
    with pytest.raises(ValueError, match="room"):
        cowfreeze.trap(room=0)
    trapped = cowfreeze.trap()
    assert trapped.backend is None and trapped.writes == ()
    json.dumps(trapped.to_dict())


def test_frames_are_known_here() -> None:
    assert _core.frames_are_known()


# --- in fork_workers and assert_shared ------------------------------------------------

DATA = [{"id": number, "tags": [f"a{number}"]} for number in range(4000)]


def hold(index: int) -> None:
    for record in DATA:
        record["tags"].append("b")


def test_assert_shared_names_the_line() -> None:
    with pytest.raises(cowfreeze.PagesCopied) as caught:
        cowfreeze.assert_shared(hold, 1)
    text = str(caught.value)
    try:
        need("perf")
    except pytest.skip.Exception:
        assert "which lines wrote is unknown" in text and "trap=True" in text
        return
    assert f"written at test_trap.py:{hold.__code__.co_firstlineno + 2} in hold" in text


def test_trap_includes_explain() -> None:
    result = cowfreeze.fork_workers(hold, 2, trap=True)
    assert [explanation.worker for explanation in result.explanations] == [0, 1]
    json.dumps(result.to_dict())
    json.dumps([explanation.to_dict() for explanation in result.explanations])


def test_no_line_without_a_trap() -> None:
    explanation = cowfreeze.fork_workers(hold, 1, explain=True).explain()
    assert {cause.line for cause in explanation.causes} == {None}
    assert "written at" not in str(explanation)


def test_plugin_names_the_line(pytester: pytest.Pytester) -> None:
    need("perf")
    project(pytester, CHANGES)
    result = run(pytester, "--cow-explain")
    result.stdout.fnmatch_lines(["*written at test_it.py:* in change*"])
