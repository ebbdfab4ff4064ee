"""status(), and what others see of a process that froze: /proc/PID/maps, doctor, top."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowfreeze._system.label import find_label
from cowfreeze._system.proc import Mapping

PROGRAM = """
import json, os, sys, time
import cowfreeze

before = cowfreeze.status()
data = [[number] for number in range(1000)]
cowfreeze.freeze(data, dry_run=True)
dry = cowfreeze.status()
first = cowfreeze.freeze(data)
second = cowfreeze.freeze({"x": [1]})
cowfreeze.fork_workers  # what it loads is put away; that is no freeze of the program's
now = cowfreeze.status()
pid = os.fork()
if pid == 0:
    inherited = cowfreeze.status()
    cowfreeze.Trap  # loaded in a worker
    inherited = cowfreeze.status()
    assert inherited.inherited and inherited.pid == os.getppid() and inherited.freezes == 2, inherited
    sys.stdin.read()
    os._exit(0)
answer = {
    "before": before.to_dict(), "dry": dry.to_dict(), "now": now.to_dict(), "text": [str(before), str(now)],
    "objects": first.objects + second.objects, "pid": os.getpid(), "worker": pid, "time": time.time(),
}
print(json.dumps(answer), flush=True)
sys.stdin.read()
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture(scope="module")
def frozen() -> Iterator[dict]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(30) == 0


def test_status_adds_up(frozen: dict) -> None:
    for nothing in (frozen["before"], frozen["dry"]):
        assert nothing["frozen"] is False and nothing["freezes"] == 0 and nothing["at"] is None
    now = frozen["now"]
    assert now["freezes"] == 2 and now["objects"] == frozen["objects"] > 1000
    assert now["pid"] == frozen["pid"] and not now["inherited"] and now["pages"] > 0
    assert abs(now["at"] - frozen["time"]) < 60
    assert frozen["text"][0] == "nothing is frozen" and "by 2 freezes" in frozen["text"][1]


@pytest.mark.parametrize("who", ["pid", "worker"])
def test_the_mapping_says_it_to_everybody(frozen: dict, who: str) -> None:
    from cowfreeze._system.label import read_label

    label = read_label(frozen[who])
    assert label is not None and label.pid == frozen["pid"] and label.freezes == 2
    assert (label.objects, label.bytes) == (frozen["now"]["objects"], frozen["now"]["bytes"])
    assert abs(label.at - frozen["time"]) < 60


def command(*arguments: str) -> dict:
    done = subprocess.run([sys.executable, "-m", "cowfreeze", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: dict = json.loads(done.stdout)
    return answer


def test_doctor_says_it(frozen: dict) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cowfreeze", "doctor", "-p", str(frozen["pid"])], capture_output=True, text=True, timeout=60
    )
    text = " ".join(done.stdout.split())
    assert "objects are frozen" in text and "1 process below shares that" in text, text


def test_top_says_it(frozen: dict) -> None:
    sample = command("top", "--once", "--json", "-p", str(frozen["pid"]))
    sizes = [process["frozen_bytes"] for tree in sample["trees"] for process in tree["processes"]]
    assert sizes == [frozen["now"]["bytes"]] * 2


@pytest.mark.parametrize("path", ["", "/memfd:other", "/memfd:cowfreeze frozen=x bytes=1", "/memfd:cowfreeze frozen=1"])
def test_other_mappings_are_no_label(path: str) -> None:
    assert find_label([Mapping(0, 4096, "r--s", path)]) is None


def test_ctrl_c_while_buffers_are_written(tmp_path: Path) -> None:
    """The freeze has happened then: it counts, and no file is kept."""
    code = (
        "import io, os, sys\nimport cowfreeze\n"
        "class Slow(io.FileIO):\n    def write(self, data): raise KeyboardInterrupt\n"
        "file = io.BufferedWriter(Slow(sys.argv[1], 'w'))\nfile.write(b'x')\nheld = [file]\n"
        "try: cowfreeze.freeze(held)\nexcept KeyboardInterrupt: print('interrupted')\n"
        "print(cowfreeze.status().frozen, sys.getrefcount(file) - 1)\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-uc", code, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["interrupted", "True 2"], done
