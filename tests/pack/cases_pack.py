"""pack: equal, read-only, shared by workers whatever they read."""

from __future__ import annotations

import collections.abc
import copy
import gc
import json
import pickle
import signal
import sys
import sysconfig
import threading
import weakref
from typing import Any

import pytest
from helpers.child import run_once

import cowfreeze
from cowfreeze import clone, pack

IMMORTAL = sys.version_info >= (3, 12)
DATA: dict[Any, Any] = {
    "list": [1, 2, [3, "x", {"y": (1, 2, [3])}]], "set": {1, 2, 3, "q", (1, 2)}, "big": set(range(100)),
    "frozenset": frozenset({1, "k"}), "no dict": {}, "no list": [], "no tuple": (), "no set": set(),
    "none": None, "true": True, "int": 10**40, "-int": -(2**62), "float": 1.5, "complex": 2j, "bytes": b"abc",
    "text": "日本語", "latin": "\xe9\xe8", "emoji": "\U0001f600", "lone": "\ud800x", "dots": ...,
    5: 6, (1, (2, 3)): "tuple", frozenset({7}): 8, "": b"", b"k": 257, 1.25: "float", None: 0,
    "many": {i * 3: str(i) for i in range(70_000)}, "names": {f"k{i}": i for i in range(300)},
    "records": [{"id": i, "tags": ["a", "b"]} for i in range(20)],
}  # fmt: skip
PACKED = pack(DATA)


class Name(str):
    pass


def test_is_equal() -> None:
    assert PACKED == DATA and DATA == PACKED and not PACKED != DATA
    assert list(PACKED) == list(DATA) and len(PACKED) == len(DATA)
    for key, value in DATA.items():
        assert PACKED[key] == value and isinstance(PACKED[key], type(value))
        assert PACKED[key].__class__ is type(value)
    assert clone(PACKED) == DATA
    small = {key: DATA[key] for key in list(DATA)[:1]}
    assert repr(pack(small)) == repr(small)
    assert repr(pack([{1}, frozenset({2}), {}, []])) == repr([{1}, frozenset({2}), {}, []])


def test_lookups() -> None:
    many, names = PACKED["many"], PACKED["names"]
    assert all(many[key] == value for key, value in DATA["many"].items())
    assert all((key in many) == (key in DATA["many"]) for key in range(-1000, 3000))
    assert names.get(5) is None and names[Name("k7")] == 7 and names.get("k300") is None
    assert all(key in PACKED["big"] for key in range(100)) and 100 not in PACKED["big"]


@pytest.mark.parametrize("n", [0, 1, 4, 5, 6, 9, 10, 11, 21, 85, 170, 171, 10_922, 10_923, 43_690])
def test_every_size_of_table_can_be_copied_and_grown(n: int) -> None:
    for source in ({i: i for i in range(n)}, {f"k{i}": i for i in range(n)}):
        packed = pack(source)
        for made in (packed.copy(), dict(packed), {**packed}, packed | {}):
            assert type(made) is dict and made == source
            made["new"], made[b"other"] = 1, 2
            assert len(made) == n + 2
        assert packed == source and list(packed.items()) == list(source.items())
        assert list(reversed(packed)) == list(reversed(source))
        values = list(source.values())
        assert pack(values) == values and set(pack(set(values))) == set(values)


def test_sources_of_every_shape() -> None:
    class Shared:
        def __init__(self) -> None:
            self.a, self.b = 1, [2]

    holes = {i: i for i in range(100)}
    for i in range(0, 100, 3):
        del holes[i]
    one = Shared()
    assert pack(vars(one)) == {"a": 1, "b": [2]} and pack(vars(Shared())) == vars(Shared())
    assert pack(holes) == holes and pack(pack(holes)) == holes
    assert pack(PACKED["records"]) == DATA["records"]


def test_shared_references_and_cycles() -> None:
    both = [1]
    made = pack({"a": both, "b": (both,)})
    assert made["a"] is made["b"][0]
    ring: list[Any] = []
    ring.append((ring, {"me": ring}))
    made = pack(ring)
    assert made[0][0] is made and made[0][1]["me"] is made
    assert repr(made) == repr(ring)
    thawed = copy.deepcopy(made)
    assert thawed[0][0] is thawed and type(thawed) is list


@pytest.mark.parametrize("kind", [list, tuple])
def test_depth_is_no_matter(kind: type) -> None:
    deep: Any = kind()
    for _ in range(100_000):
        deep = kind([deep])
    made = pack(deep)
    for _ in range(100_000):
        made = made[0]
    assert len(made) == 0


def test_values_are_stored_once() -> None:
    reports: list[cowfreeze.PackReport] = []
    made = pack([{"city": "Ber" + "lin" * (1 + i % 2), "x": 1234.5 + i % 3} for i in range(1000)], report=reports.append)
    assert made[0]["city"] is made[2]["city"] and made[0]["x"] is made[3]["x"]
    report = reports[0]
    assert report.bytes == report.header_bytes + report.table_bytes < report.source_bytes * 1.5
    assert report.references > 1900 and report.objects < 1010 and report.kept_strings == 2
    assert json.dumps(report.to_dict()) and "packed" in str(report)


def test_copies_are_ordinary() -> None:
    plain = {key: DATA[key] for key in ("list", "set", "frozenset", "no dict", "text", "lone")}
    packed = pack(plain)
    copies = [pickle.loads(pickle.dumps(packed, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    copies += [copy.deepcopy(packed), clone(packed)]
    for made in copies:
        assert made == plain
        assert [type(made), type(made["list"]), type(made["set"]), type(made["frozenset"])] == [dict, list, set, frozenset]
        made["list"].append(1)
        made["set"].add(1)
    assert type(copy.copy(packed["list"])) is list and type(copy.copy(packed["set"])) is set
    assert type(packed["list"][:1]) is type(packed["list"] + [1]) is type(sorted(packed["list"][:2])) is list


def test_reads_as_the_builtin() -> None:
    items, mapping, members = PACKED["list"], PACKED["names"], PACKED["set"]
    assert isinstance(items, collections.abc.Sequence) and isinstance(mapping, collections.abc.Mapping)
    assert isinstance(members, set) and isinstance(members, collections.abc.Set)
    assert json.loads(json.dumps(mapping)) == DATA["names"] == json.loads(json.dumps(mapping, indent=1))
    assert (lambda **kw: kw)(**mapping) == DATA["names"] and (lambda *a: a)(*items) == (*DATA["list"],)
    first, *rest = items
    assert first == 1 and rest == DATA["list"][1:] and "%(k1)s {k1}" % mapping == "1 {k1}"
    assert "{k1}".format_map(mapping) == "1" and eval("k1 + k2", {}, mapping) == 3
    assert items < [2] and items.index(2) == 1 and items.count(2) == 1 and items[-1] == items[2]
    assert list(reversed(items)) == list(reversed(DATA["list"])) and items * 2 == DATA["list"] * 2
    assert mapping.keys() & {"k1"} == {"k1"} and ("k1", 1) in mapping.items() and 1 in mapping.values()
    assert members | {9} == DATA["set"] | {9} == {9} | members and type(members | {9}) is type({9} & members) is set
    assert members - {1} == DATA["set"] - {1} and members ^ {1} == DATA["set"] ^ {1}
    assert members.union([9], [8]) == DATA["set"] | {8, 9} and members >= {1, 2} and not members.isdisjoint({1})
    assert type(members.intersection([1])) is set and members.copy() == DATA["set"]
    assert PACKED["frozenset"] | {5} == frozenset({1, "k", 5}) and hash(PACKED["frozenset"]) == hash(DATA["frozenset"])
    assert {PACKED["frozenset"]: 1}[frozenset({1, "k"})] == 1
    exec(
        "match items:\n case [1, 2, [3, 'x', {'y': y}]]: assert y == (1, 2, [3])\n case _: assert False\n"
        "match mapping:\n case dict(): pass\n case _: assert False\n",
        {"items": items, "mapping": mapping},
    )


MUTATIONS: list[tuple[str, Any]] = [
    (text, compile(text, text, "exec"))
    for text in (
        "d['k1'] = 1; del d['k1']; d.update(a=1); d.pop('k1'); d.popitem(); d.clear(); d.setdefault('q', 1); d |= {};"
        "dict.__setitem__(d, 'a', 1); dict.__delitem__(d, 'k1'); dict.update(d, {}); dict.pop(d, 'k1'); dict.popitem(d);"
        "dict.clear(d); dict.setdefault(d, 'q', 1); dict.__ior__(d, {}); dict.__init__(d, a=1); d.__class__ = dict; d.x = 1;"
        "l[0] = 1; del l[0]; l[:] = []; l += [1]; l *= 2; l.append(1); l.extend([1]); l.insert(0, 1); l.pop(); l.remove(1);"
        "l.reverse(); l.sort(); l.clear(); list.append(l, 1); list.sort(l); list.pop(l); list.clear(l); list.reverse(l);"
        "list.__setitem__(l, 0, 1); list.__iadd__(l, [1]); list.__imul__(l, 2); list.__init__(l); list.extend(l, [1]);"
        "s.add(1); s.discard(1); s.pop(); s.remove(1); s.clear(); s.update([1]); s |= {1}; s &= {1}; s -= {1}; s ^= {1};"
        "set.add(s, 1); set.clear(s); set.pop(s); set.__ior__(s, {1}); set.update(s, [1]); set.__init__(s); hash(s); hash(d);"
        "hash(l); object.__new__(type(d)); frozenset.__new__(type(s));"
        "object.__setattr__(l, 'x', 1); object.__setattr__(d, '__class__', dict); type(d).get = 1;"
        "import weakref; weakref.ref(s); import weakref; weakref.ref(d); import bisect; bisect.insort(l, 1);"
        "import random; random.shuffle(l); import operator; operator.iconcat(l, [1]); exec('a = 1', {}, d);"
        "class C(type(d)): pass; class C(type(s)): pass"
    )
    .replace("import weakref; ", "import weakref\n").replace("import bisect; ", "import bisect\n")
    .replace("import random; ", "import random\n").replace("import operator; ", "import operator\n").split(";")
    for text in [text.strip()]
]  # fmt: skip


@pytest.mark.parametrize(("text", "code"), MUTATIONS, ids=[text.replace("\n", " ") for text, _ in MUTATIONS])
def test_nothing_changes_it(text: str, code: Any) -> None:
    packed = {"d": PACKED["names"], "l": PACKED["list"], "s": PACKED["set"]}
    before = {name: clone(value) for name, value in packed.items()}
    with pytest.raises((TypeError, AttributeError)):
        exec(code, dict(packed))
    assert {"d": PACKED["names"], "l": PACKED["list"], "s": PACKED["set"]} == before


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([0] * 17 + [{"lock": threading.Lock()}], r"data\[17\]\['lock'\]: _thread.lock cannot be packed"),
        ({"x": Name("x")}, r"data\['x'\]: Name cannot be packed"),
        ([{(1, object()): 1}], r"data\[0\]\[<tuple>\]\[1\]: object cannot"),
        ([{1, Name("q")}], r"data\[0\]{element}: Name cannot"),
        (bytearray(b"x"), "data: bytearray cannot"),
    ],
)
def test_refuses_with_the_path(data: Any, text: str) -> None:
    from cowfreeze import _core

    bytes_before = _core.packed_bytes()
    with pytest.raises(TypeError, match=text):
        pack(data)
    assert _core.packed_bytes() == bytes_before and gc.isenabled()


def test_single_values() -> None:
    for value in (None, 1, 10**30, "x", "abc" * 100, b"", "", (), [], 1.5):
        assert pack(value) == value
    assert weakref.getweakrefcount(PACKED) == 0
    assert cowfreeze.is_frozen(PACKED) and cowfreeze.is_frozen(PACKED["list"])


def test_many_packs_and_a_freeze() -> None:
    assert run_once("pack.cases_packing", "many", 200) == []


def test_freeze_of_something_that_holds_packed_data() -> None:
    assert run_once("pack.cases_packing", "copied_by_reading", 2000) == 0


def test_workers_share_everything() -> None:
    result = run_once("pack.cases_packing", "shared", 8000)
    assert result["known"] and result["frozen"] == 0 and result["packed"] > 4 << 20, result
    assert result["copied"] <= 1 << 20, result


def test_a_planted_write_is_found_where_it_is_a_copy() -> None:
    result = run_once("pack.cases_packing", "planted")
    assert result["pages"] > 20 and result["frozen_page"] and result["is_frozen"], result
    assert result["unchanged"]
    if IMMORTAL:
        assert result["copied"] == 1 and result["right"], result
    else:
        assert result["copied"] == 0, result


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_DEBUG")), reason="there a packed str counts as interned")
def test_an_explanation_names_packed_objects() -> None:
    result = run_once("pack.cases_packing", "explained")
    if not IMMORTAL:
        assert result["frozen"] == 0 and result["paths"] == [], result
        return
    assert 1 <= result["frozen"] <= 8 and result["types"] == ["str"], result
    assert all(path.startswith("data['words'][0][") for path in result["paths"]), result


def test_c_code_that_writes_harms_its_worker_only() -> None:
    """More of it, and Python code too: cases_writes.py."""
    result = run_once("pack.cases_packing", "broken")
    for name, (status, same, repaired, same_after) in result.items():
        if IMMORTAL:
            assert status in (0, 77), (name, result[name])
        else:
            assert status == 77 or status in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS), (name, result[name])
        assert same_after, (name, result[name])
        if IMMORTAL or name in ("heappush", "exec", "PyList_Append") or name.startswith("PyDict_SetItem"):
            assert same and repaired == 0, (name, result[name])


@pytest.mark.parametrize("limit", ["failures", "file_size_limit", "address_space_limit", "memfd_forbidden"])
def test_failing_leaves_nothing_behind(limit: str) -> None:
    result = run_once("pack.cases_packing", limit)
    assert len(result) >= 2 and all(result.values()), result


def test_counts_may_drift() -> None:
    result = run_once("pack.cases_packing", "stress", 2, 1.0)
    assert result["same"] and result["repaired"] == 0 and result["changes"] > 10_000, result
    assert result["drift"] < 1 << 40, result


@pytest.mark.slow
def test_counts_may_drift_for_long() -> None:
    result = run_once("pack.cases_packing", "stress", 8, 40.0)
    assert result["same"] and result["repaired"] == 0 and result["changes"] > 10**9, result
    assert result["drift"] < 1 << 40, result
