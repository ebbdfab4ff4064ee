"""A parent with things to finish, and two workers that leave them to it: cases_inherited.py data|heap FOLDER."""

from __future__ import annotations

import os
import sys
import tempfile

import cowfreeze

mode, folder = sys.argv[1:]


class Tells:
    def __del__(self) -> None:
        os.write(1, b"parent finalises\n" if os.getpid() == parent else b"a worker finalises\n")


class Holder:
    pass


def temporary_is_there() -> bool:
    return any(name.startswith("temporary") for name in os.listdir(folder))


parent = os.getpid()
holder = Holder()
holder.tells = Tells()  # type: ignore[attr-defined]
holder.temporary = tempfile.NamedTemporaryFile(dir=folder, prefix="temporary")  # type: ignore[attr-defined]
holder.log = open(os.path.join(folder, "log"), "w")  # type: ignore[attr-defined]
holder.log.write("boot\n")  # type: ignore[attr-defined]
report = cowfreeze.freeze(holder) if mode == "data" else cowfreeze.freeze()
assert report.skipped["object with a finalizer"] >= 2, report.skipped
print("temporary file:", temporary_is_there(), flush=True)
for i in range(2):
    if os.fork() == 0:
        holder.log.write(f"worker {i}\n")  # type: ignore[attr-defined]
        sys.exit(3)
    print("worker", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
    print("temporary file:", temporary_is_there(), flush=True)
holder.log.write("parent\n")  # type: ignore[attr-defined]
