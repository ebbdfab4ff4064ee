"""What a worker of a Django application copies: plain fork, gc.freeze, cowfreeze.

    python bench/bench_django.py [--modes plain,gc.freeze,freeze,relocate] [--json FILE] [--results]

The application (bench/django_app/) has the admin, templates, sqlite, a table of 100,000 articles
in memory, and imports pandas and SQLAlchemy. Each mode runs in processes of its own:

1. boot, serve every kind of request twice (the warm-up), close the database connections;
2. freeze as the mode says; fork a witness that never runs; fork the workers;
3. each worker serves its requests, and waits at 0, 500, 1,000, 2,000, 5,000 and 10,000 of them;
   at 1,000, 5,000 and 10,000 it also collects. Meanwhile the parent measures it (copied_pages.py):
   a worker that measures itself copies some 0.3 MB by doing so.

Figures are MiB per worker, the largest of the workers. "Copied" are pages that existed at the fork.
`--results` writes bench/results/django-X.Y.json with the whole curve; `--explain` serves 1,000
requests in a worker of fork_workers and prints why it copied.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from copied_pages import copied_pages

HERE = Path(__file__).resolve().parent
MODES = ("plain", "gc.freeze", "freeze", "relocate")
CURVE = (0, 500, 1_000, 2_000, 5_000, 10_000)
COLLECT_AT = (1_000, 5_000, 10_000)
TARGETS = {"freeze": 3.5, "relocate": 1.8}  # MiB after 1,000 and 5,000 requests and a collection
MIB = 1 << 20


def boot(database: str, session: str, mix: str) -> Any:
    """The application, before its first request."""
    sys.path.insert(0, str(HERE))
    from django_app.application import Application

    return Application(database, session, mix)


def freeze(mode: str, application: Any) -> Any:
    """Warm up, and freeze as MODE says. Returns the report of cowfreeze, or None."""
    if mode in ("plain", "gc.freeze"):
        application.warm_up()
        gc.collect()
        if mode == "gc.freeze":
            gc.freeze()
        return None
    import cowfreeze

    return cowfreeze.freeze(warmup=application.warm_up, relocate_code=mode == "relocate")


def about_freeze(report: Any) -> dict[str, Any] | None:
    """The report as plain data, without the types. After measuring: making it uses memory."""
    if report is None:
        return None
    result: dict[str, Any] = report.to_dict()
    del result["by_type"]
    return result


class Worker:
    """A forked worker that serves when it is told to."""

    def __init__(self, application: Any, number: int) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._commands)  # so that the end of the parent is seen
            status = 1
            try:
                self._serve(application, number, commands, answers)
                status = 0
            finally:
                os._exit(status)
        os.close(commands)
        os.close(answers)

    @staticmethod
    def _serve(application: Any, number: int, commands: int, answers: int) -> None:
        served = number * 37
        while True:
            command = os.read(commands, 8)
            if command in (b"end     ", b""):
                return
            if command == b"collect ":
                gc.collect()
            else:
                for _ in range(int(command)):
                    application.serve(served)
                    served += 1
            os.write(answers, b".")

    def tell(self, command: str) -> None:
        """Send a command of at most 8 characters."""
        os.write(self._commands, command.ljust(8).encode())

    def wait(self) -> None:
        """Until the command was done."""
        if os.read(self._answers, 1) != b".":
            raise RuntimeError(f"worker {self.pid} ended: {os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])}")

    def end(self) -> None:
        """Let it end, and reap it."""
        self.tell("end")
        os.waitpid(self.pid, 0)


def anonymous_bytes(pid: int | str = "self") -> int:
    """RssAnon of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc has no RssAnon")


def private_dirty(pid: int) -> int:
    """Private_Dirty of a process: copied and new memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc has no Private_Dirty")


def run_mode(arguments: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: boot, freeze, fork, serve, measure."""
    from cowfreeze import _core

    application = boot(arguments.database, arguments.session, arguments.mix)
    if arguments.explain:
        return explain(application, arguments.mode)
    report = freeze(arguments.mode, application)
    anonymous = anonymous_bytes()
    points: list[dict[str, Any]] = []
    with _core.Witness() as witness:
        workers = [Worker(application, number) for number in range(arguments.workers)]
        with _core.Witness():  # holds what this process has written between both forks

            def measure(requests: int, collected: bool) -> None:
                found = [copied_pages(witness.pid, worker.pid) for worker in workers]
                worst = max(found, key=lambda pages: pages.copied)
                dirty = max(private_dirty(worker.pid) for worker in workers)
                points.append(
                    {"requests": requests, "collected": collected, "private_dirty": dirty, **worst.to_dict()}
                )

            served = 0
            for requests in CURVE:
                if requests > arguments.requests:
                    break
                command = [str(requests - served), *(["collect"] if requests in COLLECT_AT else [])]
                for collected, order in enumerate(command):
                    for worker in workers:
                        worker.tell(order)
                    for worker in workers:
                        worker.wait()
                    measure(requests, bool(collected))
                served = requests
            for worker in workers:
                worker.end()
    return {
        "mode": arguments.mode,
        "anonymous": anonymous,
        "points": points,
        "report": about_freeze(report),
        "pandas_missing": application.pandas_missing,
    }


def explain(application: Any, mode: str) -> dict[str, Any]:
    """1,000 requests in a worker of fork_workers, and the causes of its copies as text."""
    import cowfreeze

    report = freeze(mode, application)

    def job(number: int) -> None:
        for request in range(1_000):
            application.serve(request)
        gc.collect()

    result = cowfreeze.fork_workers(job, workers=1, explain=True)
    return {"mode": mode, "report": about_freeze(report), "explanation": str(result.explain()), "figures": str(result)}


def machine() -> dict[str, str]:
    """What a reader needs to repeat the figures."""
    try:
        thp = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip()
    except OSError as error:
        thp = f"unknown ({error.strerror})"
    versions = {}
    from importlib.metadata import PackageNotFoundError, version

    for package in ("django", "sqlalchemy", "numpy", "pandas"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": f"{platform.python_version()} {platform.python_compiler()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "page size": str(os.sysconf("SC_PAGE_SIZE")),
        "THP": thp,
        **versions,
    }


def run_modes(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each mode in a fresh process."""
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-django-") as folder:
        database = str(Path(folder) / "shop.sqlite3")
        program = (
            f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
            "from django_app.application import create_database\n"
            f"print(create_database({database!r}))"
        )
        made = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
        for mode in arguments.modes:
            command = [sys.executable, str(Path(__file__).resolve()), "--mode", mode, "--database", database]
            command += ["--session", made.stdout.strip(), "--requests", str(arguments.requests)]
            command += ["--workers", str(arguments.workers), "--mix", arguments.mix, *(["--explain"] if arguments.explain else [])]
            print(f"{mode} ...", file=sys.stderr, flush=True)
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"bench_django: the process of mode {mode!r} ended with status {done.returncode}")
            results.append(json.loads(done.stdout))
    return results


def show(results: list[dict[str, Any]]) -> None:
    """A table: one column per mode, one line per measuring point."""
    print(f"\n{'MiB copied per worker':<26}" + "".join(f"{result['mode']:>12}" for result in results))
    for number, point in enumerate(results[0]["points"]):
        label = f"{point['requests']:,} requests" + (", collected" if point["collected"] else "")
        cells = [result["points"][number] for result in results]
        print(f"{label:<26}" + "".join(f"{cell['copied'] / MIB:>12.2f}" for cell in cells))
    for name in ("arenas", "heap", "files", "new", "private_dirty"):
        cells = [result["points"][-1] for result in results]
        print(f"{'at the end: ' + name:<26}" + "".join(f"{cell[name] / MIB:>12.2f}" for cell in cells))
    print(f"{'anonymous, parent':<26}" + "".join(f"{result['anonymous'] / MIB:>12.1f}" for result in results))
    for result in results:
        if result["report"] is not None:
            for note in result["report"]["notes"]:
                print(f"{result['mode']}: note: {note}")
    if results[0]["pandas_missing"]:
        print(results[0]["pandas_missing"])
    for result in results:
        wanted = TARGETS.get(result["mode"])
        reached = [p["copied"] / MIB for p in result["points"] if p["collected"] and p["requests"] in (1_000, 5_000)]
        if wanted is not None and reached:
            verdict = "reached" if max(reached) <= wanted else "missed"
            print(f"{result['mode']}: target {wanted} MiB {verdict}: {max(reached):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--modes", default=",".join(MODES), help="which, separated by commas")
    parser.add_argument("--requests", type=int, default=10_000, help="the last measuring point")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mix", choices=("usual", "all"), default="usual", help="which requests")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--results", action="store_true", help="write them to bench/results/")
    parser.add_argument("--explain", action="store_true", help="print why 1,000 requests copied")
    for name in ("--mode", "--database", "--session"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        print(json.dumps(run_mode(arguments)))
        return
    arguments.modes = arguments.modes.split(",")
    unknown = set(arguments.modes) - set(MODES)
    if unknown:
        parser.error(f"no such mode: {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    about = machine()
    for name, text in about.items():
        print(f"{name:<11} {text}")
    results = run_modes(arguments)
    if arguments.explain:
        for result in results:
            print(result["mode"], result["figures"], result["explanation"], sep="\n")
        return
    show(results)
    files = [arguments.json] if arguments.json else []
    if arguments.results:
        folder = HERE / "results"
        folder.mkdir(exist_ok=True)
        files.append(folder / f"django-{sys.version_info[0]}.{sys.version_info[1]}.json")
    for file in files:
        file.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
