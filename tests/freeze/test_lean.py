"""What cowfreeze loads, which is what each worker copies: little, and nothing after a freeze."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import sys
before = set(sys.modules)
import cowfreeze
imported = set(sys.modules) - before
data = [{"n": n, "t": (n, str(n))} for n in range(100)]
report = cowfreeze.freeze(data)
frozen = set(sys.modules) - before
str(report), repr(report), report.to_dict(), report.notes, report.by_type
cowfreeze.is_frozen(data)
report.phases, report.skipped, f"{report}"
cowfreeze.freeze(data); cowfreeze.freeze()
after = set(sys.modules) - before - frozen
import json
print(json.dumps([sorted(imported), sorted(frozen), sorted(after)]))
"""
MEASURING = """
import json, os, sys
import cowfreeze
from cowfreeze import clone, fast_exit, fork_workers, iter_clone, pack, status, trap
data = [{"n": n, "t": [n, str(n)]} for n in range(100)]
packed = pack(data)
report = cowfreeze.freeze(data)
before = set(sys.modules)
result = fork_workers(lambda index: len(data), workers=2, explain=True)
str(result), repr(result), result.to_dict(), result.assert_shared(max_copied="64 MiB", max_frozen=1000)
str(result.explain()), repr(result.explain()), result.explain().to_dict()
str(report), str(status()), status().to_dict(), clone(data, 1), list(iter_clone(data, 2, "t")), cowfreeze.is_frozen(1)
print(json.dumps(sorted(name for name in set(sys.modules) - before)))
"""


def run(program: str, *options: str) -> Any:
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_import_is_lean_and_printing_imports_nothing() -> None:
    imported, frozen, after = run(PROGRAM)
    assert len(imported) <= 4, imported
    # The interpreter's own way to know its opcodes comes with it on 3.14 and later.
    assert len([name for name in frozen if "opcode" not in name]) <= 24, frozen
    assert not {"threading", "logging", "random", "rich", "psutil", "pickle", "re", "typing"} & set(frozen), frozen
    assert after == []


def test_documented_calls_import_no_rich_after_a_freeze() -> None:
    assert [name for name in run(MEASURING) if name.split(".")[0] not in ("cowfreeze",)] == []
