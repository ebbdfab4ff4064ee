"""Coverage-guided fuzzing (Atheris) of the parsers that are written in Python: `make fuzz`.

    python tests/robust/guided_fuzz.py [--seconds N] [TARGET ...]

Each target runs in a process of its own for N seconds. What it checks is what tests/robust/test_fuzz.py
checks with changed files; Atheris finds its inputs by the lines that they reach. Inputs that reached
something are kept in .cache/fuzz/TARGET and begin the next run. Exit status 0: every target ended in time
with no finding; otherwise the input that failed lies in the working directory, as the output says.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

TESTS = Path(__file__).resolve().parents[1]
CORPUS = TESTS.parent / ".cache" / "fuzz"
sys.path.insert(0, str(TESTS))
with atheris.instrument_imports(include=["cowfreeze"]):
    from robust import test_fuzz as checks

    from cowfreeze._system import proc


def file_target(name: str) -> Callable[[bytes], None]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None), "1")
    folder.mkdir()

    def run(data: bytes) -> None:
        (folder / name).write_bytes(data)
        try:
            checks.FILES[name](folder.parent)
        except proc.Unreadable:
            pass

    return run


def sizes(data: bytes) -> None:
    try:
        checks.check_size(data)
    except ValueError:
        pass


def arguments(data: bytes) -> None:
    checks.check_arguments(random.Random(data))


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    **{name: lambda name=name: file_target(name) for name in checks.FILES},
    "sizes": lambda: sizes,
    "arguments": lambda: arguments,
}


def seeds(name: str) -> list[bytes]:
    if name in checks.FILES:
        return [checks.read(f"/proc/self/{name}")]
    return [b"256 KiB", b"1.5 MB", b"12", b"0.001 TiB"]


def fuzz(name: str, seconds: int) -> None:
    """Does not return: libFuzzer ends the process."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=4096", "-max_len=8000", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *options], TARGETS[name]())
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    unknown = set(wanted.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}: choose of {', '.join(TARGETS)}")
    if wanted.inside:
        fuzz(wanted.targets[0], wanted.seconds)
    failed = []
    for name in wanted.targets or TARGETS:
        command = [sys.executable, __file__, "--inside", "--seconds", str(wanted.seconds), name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        figures = dict(
            line.removeprefix("stat::").split(":", 1) for line in done.stderr.splitlines() if line.startswith("stat::")
        )
        kept = len(list((CORPUS / name).iterdir()))
        runs = figures.get("number_of_executed_units")
        print(f"{name}: {runs.strip() if runs else '?'} inputs, {kept} kept, status {done.returncode}", flush=True)
        # Without figures the process was ended, or became another program, whatever its status.
        if done.returncode != 0 or runs is None:
            failed.append(name)
            print(done.stdout[-2000:] + done.stderr[-4000:], file=sys.stderr)
    sys.exit(f"findings: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
