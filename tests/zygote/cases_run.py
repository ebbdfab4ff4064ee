"""`cowfreeze zygote serve` and programs that `cowfreeze zygote run` starts from it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import zygote_case
from cases_programs import differences

COMMAND = [sys.executable, "-c", "import sys; from cowfreeze_command import main; sys.exit(main())", "zygote"]
PRELOAD = "argparse,asyncio,json,logging.handlers,multiprocessing.pool,random,tempfile"


@contextlib.contextmanager
def serving(folder: Path, *options: str, preload: str = PRELOAD) -> Iterator[tuple[subprocess.Popen[str], str]]:
    path = str(folder / "socket")
    process = subprocess.Popen(
        [*COMMAND, "serve", "--preload", preload, "--socket", path, *options],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("zygote of programs, generation 1"), line + process.stderr.read()
    try:
        yield process, path
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def runner(path: str) -> Any:
    def start(arguments: list[str], **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen([*COMMAND, "run", "--socket", path, *arguments], **options)

    return start


def compare() -> Any:
    """As with popen. Without what shows the process group and the parent."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        with serving(folder) as (process, path):
            number, different = differences(runner(path), folder / "work", ("session",))
            forked = parent_of_a_program(path) == zygote_of(process)
        return number, different, forked, sorted(os.listdir(folder))


def zygote_of(process: subprocess.Popen[str]) -> int:
    """The child of the serving process that is no resource tracker."""
    children = psutil.Process(process.pid).children()
    return next(one.pid for one in children if "resource_tracker" not in " ".join(one.cmdline()))


def parent_of_a_program(path: str) -> int:
    start = runner(path)
    with start(["-c", "import os; print(os.getppid())"], stdout=subprocess.PIPE, text=True) as process:
        return int(process.communicate()[0])


def status_of(arguments: list[str], **options: Any) -> Any:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout, done.stderr


def without_a_server() -> Any:
    """The ordinary way: no socket, nobody behind it, another Python's, another user's."""
    with tempfile.TemporaryDirectory() as name:
        path = os.path.join(name, "socket")
        found = [status_of(["run", "--socket", path, "-c", "import os, sys; print(os.getppid()); sys.exit(4)"])]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
        found.append(status_of(["run", "--socket", path, "-c", "print(1)"]))
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            process = subprocess.Popen([*COMMAND, "run", f"--socket={path}", "-c", "print(2)"], stdout=subprocess.PIPE, text=True)
            client, _ = listener.accept()
            client.sendall(b"something else, which is long enough for a greeting of any Python" * 10)
            client.close()
            found.append((process.wait(60), process.communicate()[0], ""))
        return [(status, out.strip() == str(os.getpid()) or out, errors) for status, out, errors in found]


def usage() -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "COWFREEZE_ZYGOTE_SOCKET"}
    found = []
    for arguments in (["run", "-m", "json.tool"], ["run", "--socket"], ["run", "--socket", "x", "-u", "y"], ["run", "--help"],
                      ["serve", "--preload", "no-such", "--socket", "x"], ["serve", "--preload", "no_such", "--socket", "/tmp/x/y/z"]):  # fmt: skip
        status, out, errors = status_of(arguments, env=environment)
        found.append((status, (out + errors).splitlines()[-1 if status != 0 else 0]))
    with tempfile.TemporaryDirectory() as name:
        status, _, errors = status_of(["serve", "--preload", "no_such_module", "--socket", os.path.join(name, "s")])
        found.append((status, errors.splitlines()[0]))
        found.append(os.listdir(name))
    return found


def owner_only() -> Any:
    """The socket's mode; and a client of another user is not served."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, preload="json") as (process, path):
            mode = oct(os.stat(path).st_mode & 0o777)
            second = status_of(["serve", "--preload", "json", "--socket", path])
            greeted: Any = None
            if os.geteuid() == 0:
                folder.chmod(0o755)
                os.chmod(path, 0o666)
                reader, writer = os.pipe()
                here = os.open(folder, os.O_PATH)  # the folders above are root's
                pid = os.fork()
                if pid == 0:
                    try:
                        os.setuid(65534)
                        with socket.socket(socket.AF_UNIX) as client:
                            client.connect(f"/proc/self/fd/{here}/socket")
                            client.settimeout(10)
                            os.write(writer, b"%d" % len(client.recv(100)))
                    except BaseException as error:
                        os.write(writer, repr(error).encode())
                    finally:
                        os._exit(0)
                os.close(here)
                os.waitpid(pid, 0)
                greeted = os.read(reader, 1000).decode()
                os.close(reader)
                os.close(writer)
        return mode, second[0], second[2].strip().replace(path, "PATH"), greeted


def life() -> Any:
    """A reload, a killed client, a zygote that dies, and that programs outlive the server."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plugin.py").write_text("X = 1")
        with serving(folder, preload="plugin") as (process, path):
            assert process.stderr is not None
            start = runner(path)
            code = "import sys, time; print('plugin' in sys.modules and sys.modules['plugin'].X, flush=True); time.sleep(100)"
            first = start(["-c", code], stdout=subprocess.PIPE, text=True)
            found["first"] = first.stdout.readline()
            (folder / "plugin.py").write_text("X = 'newer'")
            process.send_signal(signal.SIGHUP)
            found["reloaded"] = process.stderr.readline().startswith("zygote of programs, generation 2")
            second = start(["-c", code], stdout=subprocess.PIPE, text=True)
            found["second"] = second.stdout.readline()
            (folder / "plugin.py").write_text("1/0")
            process.send_signal(signal.SIGHUP)
            found["failed"] = process.stderr.readline().startswith("cowfreeze: zygote of programs: ZeroDivisionError")
            third = start(["-c", code], stdout=subprocess.PIPE, text=True)
            found["third"] = third.stdout.readline()
            # Who stands for the program is killed: the program is.
            programs = [one for one in psutil.Process(process.pid).children(recursive=True) if one.ppid() == zygote_of(process)]
            second.kill()
            second.wait()
            third.send_signal(signal.SIGTERM)
            found["terminated"] = third.wait(20)
            deadline = time.monotonic() + 10
            while any(one.is_running() for one in programs) and time.monotonic() < deadline:
                time.sleep(0.02)
            found["left"] = sum(one.is_running() for one in programs)
        # The server has gone, and the first program runs on until it is told.
        found["alive"] = first.poll()
        first.terminate()
        found["first ends"] = first.wait(20)
        for one in (first, second, third):
            one.stdout.close()
        with serving(folder, preload="json") as (process, path):
            os.kill(zygote_of(process), signal.SIGKILL)
            found["died"] = process.wait(20), process.stderr.readline().partition(" (out")[0]
        found["files"] = sorted(os.listdir(folder))
    return found


if __name__ == "__main__":
    zygote_case.main(globals())
