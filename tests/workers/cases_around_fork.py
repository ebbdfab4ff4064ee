"""A signal's handler raises in the parent around a fork, while another thread takes the signals.

The main thread blocks them there, but runs the handlers all the same. No child may be left, and
none may run on in the parent's frames.
"""

import os
import signal
import threading
import time

import psutil

import cowfreeze
from cowfreeze._plugin import zygote

main = os.getpid()
delay = 0.0


class Alarm(BaseException):
    pass


def on_alarm(number: int, frame: object) -> None:
    raise Alarm


def after_fork() -> None:
    """One signal, right after the first fork of a round."""
    global delay
    if delay:
        signal.setitimer(signal.ITIMER_REAL, delay)
        delay = 0.0


def work(index: int = 0) -> None:
    time.sleep(0.002)


threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
signal.signal(signal.SIGALRM, on_alarm)
os.register_at_fork(after_in_parent=after_fork)
came = 0
for number in range(60):
    delay = (1 + number % 20) * 8e-6
    try:
        try:
            if number < 40:
                cowfreeze.fork_workers(work, 3)
            else:
                zygote.run(work)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm:
        came += 1
    if os.getpid() != main:
        os.write(1, b"a child runs on\n")
        os._exit(1)
    left = psutil.Process().children()
    assert not left, (number, left)
    assert signal.getsignal(signal.SIGALRM) is on_alarm
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert came > 10, came
print("ok", flush=True)
os._exit(0)
