"""Programs in which something goes wrong with a zygote: bad load functions, signals, deaths."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import zygote_case

import cowfreeze

# -- load functions ---------------------------------------------------------


def load(how: str = "") -> Any:
    if how == "thread":
        threading.Thread(target=time.sleep, args=(100,), daemon=True, name="refresher").start()
    if how == "fork":
        os.fork()
    if how == "process":
        subprocess.Popen([sys.executable, "-c", "pass"])  # ends some time, nobody waits for it
    if how == "print":
        print("printed by load", end=" ")
        sys.stderr.write("and to stderr")
    if how == "zygote":
        return cowfreeze.Zygote(load)
    if how == "import":
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    if how == "lock":
        return [{"fine": 1}, {"lock": threading.Lock()}]
    if how == "generator":
        return (number for number in range(3))
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "closes":
        os.closerange(3, 200)
    if how == "slow":
        print("loading", flush=True)
        time.sleep(100)
    if how == "chdir":
        os.chdir("/")
    if how == "signals":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.alarm(0)
    return {"how": how}


def attempt(how: str, **options: Any) -> Any:
    """What `load(how)` gives: the first line of the error, or the exit status of a worker."""
    try:
        with cowfreeze.Zygote(load, how, name="bad", **options) as zygote:
            return [start(zygote) for _ in range(2)], zygote.report.notes
    except Exception as error:
        return type(error).__name__, str(error)


def check(data: Any) -> None:
    sys.exit(7)


def start(zygote: Any, target: Any = check) -> Any:
    process = zygote.context.Process(target=target, args=(zygote.data,))
    process.start()
    process.join(20)
    return process.exitcode


def bad_pickle() -> Any:
    found = []
    for bad in (lambda: 1, threading.Lock(), 5):
        try:
            cowfreeze.Zygote(bad)  # type: ignore[arg-type]
        except Exception as error:
            found.append((type(error).__name__, str(error)[:60]))
    for name, value in (("how", "heep"), ("warmup", 3)):
        try:
            cowfreeze.Zygote(load, **{name: value})
        except Exception as error:
            found.append((type(error).__name__, str(error)[:60]))
    return found


def cannot_pack() -> Any:
    try:
        cowfreeze.Zygote(pack_lock, how="pack", name="bad").close()
    except cowfreeze.ZygoteFailed as error:
        return type(error).__name__, str(error)


def pack_lock() -> Any:
    return load("lock")


def bad_warmup(data: Any) -> None:
    raise RuntimeError("not warm")


def warmup_fails() -> Any:
    return attempt("", warmup=bad_warmup)


# -- deaths -----------------------------------------------------------------


def sleeper(data: Any, seconds: float) -> int:
    print("working", flush=True)
    time.sleep(seconds)
    return 1


def wait_for_pool(kind: str) -> None:
    """Workers that wait for work and one that works; the test sends a signal."""
    with cowfreeze.Zygote(load) as zygote:
        if kind == "pool":
            with zygote.context.Pool(2) as pool:
                pool.apply(sleeper, (zygote.data, 2))
                print("not interrupted")
        else:
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=zygote.context) as executor:
                executor.submit(sleeper, zygote.data, 2).result()
                print("not interrupted")


def wait_in_load() -> None:
    cowfreeze.Zygote(load, "slow")


def zygote_dies() -> Any:
    """A zygote is killed while an executor and a worker of it run."""
    with cowfreeze.Zygote(load, name="frail") as zygote:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=zygote.context) as executor:
            future = executor.submit(sleeper, zygote.data, 1)
            process = zygote.context.Process(target=sleeper, args=(zygote.data, 1.5))
            process.start()
            time.sleep(0.5)
            os.kill(zygote.pid, signal.SIGKILL)
            time.sleep(0.2)
            alive = process.is_alive()
            finished = future.result(20)
            process.join(20)
        try:
            start(zygote)
            message = ""
        except cowfreeze.ZygoteFailed as error:
            message = f"{error} {error.signal}"
        try:
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=zygote.context) as executor:
                executor.submit(abs, 1).result()
            second = ""
        except cowfreeze.ZygoteFailed as error:
            second = type(error).__name__
        zygote.reload()
        return alive, finished, process.exitcode, message, second, start(zygote)


def closed() -> Any:
    zygote = cowfreeze.Zygote(load, name="shop")
    running = zygote.context.Process(target=sleeper, args=(zygote.data, 0.5))
    running.start()
    zygote.close()
    zygote.close()
    found = []
    for what in (lambda: start(zygote), zygote.reload, lambda: zygote.pid, lambda: len(zygote.data)):
        try:
            what()
        except cowfreeze.CowfreezeError as error:
            found.append(str(error))
    running.join()
    return set(found) == {"shop is closed; make another Zygote"}, len(found), repr(zygote), running.exitcode


def nobody_waits() -> Any:
    """A program that ignores SIGCHLD cannot wait for its children, nor learn how they ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with cowfreeze.Zygote(load) as zygote:
        statuses = start(zygote)
        pids = zygote.pid, zygote.reload().pid
        os.kill(zygote.pid, signal.SIGKILL)
        try:
            zygote.reload("kill")
        except cowfreeze.ZygoteFailed as error:
            return statuses, str(error), [os.path.exists(f"/proc/{pid}") for pid in pids]


def forgotten() -> Any:
    """Never closed: the end of the program, or of the object, is the end of the process."""
    import gc

    zygote = cowfreeze.Zygote(load)
    pid = zygote.pid
    del zygote
    gc.collect()
    gone = not os.path.exists(f"/proc/{pid}")
    kept = cowfreeze.Zygote(load)
    globals()["kept"] = kept
    kept.context.Process(target=check, args=(kept.data,)).start()
    return gone


def without_streams() -> None:
    """A daemon: descriptors 0, 1 and 2 are closed."""
    answer = os.dup(1)
    os.close(0)
    os.close(1)
    os.close(2)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]
    with cowfreeze.Zygote(load) as zygote:
        os.write(answer, b"[%d, %d]\n" % (start(zygote), start(zygote)))
        zygote.reload()
        os.write(answer, b"[%d, %d]\n" % (start(zygote), start(zygote)))


def bad_clients() -> Any:
    """What others send to the socket does not end the zygote, nor does it fork for them."""
    import socket

    with cowfreeze.Zygote(load) as zygote:
        address = zygote._running()._forkserver_address
        mode = os.stat(address).st_mode & 0o777
        for sent in (b"", b"x", b"x" * 100_000):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
                client.settimeout(1)
                try:
                    client.sendall(sent)
                except OSError:
                    pass
        return oct(mode), start(zygote), start(zygote)


def no_processes_left() -> Any:
    """A fork that fails is an OSError of the one who asked, and the zygote goes on."""
    import resource

    with cowfreeze.Zygote(limit_processes) as zygote:
        try:
            start(zygote)
            message = ""
        except OSError as error:
            message = f"{type(error).__name__}: {error}"
        return message, resource.getrlimit(resource.RLIMIT_NPROC)[0] > 0


def limit_processes() -> int:
    import resource

    if os.geteuid() == 0:
        os.setuid(65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return 1


def check_signals(data: Any) -> None:
    fine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fine = fine and signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    fine = fine and not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    sys.exit(0 if fine else 1)


def handlers() -> Any:
    with cowfreeze.Zygote(load) as zygote, cowfreeze.Zygote(load, "signals") as other:
        return start(zygote, check_signals), start(other)


if __name__ == "__main__":
    zygote_case.main(globals())
