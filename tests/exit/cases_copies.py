"""What the end of a worker copies, with a heap of N strings: cases_copies.py WAY N. Prints JSON.

The interpreter is gone when the second figure is taken: the C library calls the measuring.
"""

from __future__ import annotations

import argparse  # noqa: F401  # modules with many globals, as a real worker has them
import asyncio  # noqa: F401
import concurrent.futures.process  # noqa: F401
import email.message  # noqa: F401
import http.server  # noqa: F401
import json
import logging.config  # noqa: F401
import os
import sys
import unittest  # noqa: F401
import xml.dom.minidom  # noqa: F401

import cowfreeze
from cowfreeze import _core

way, count = sys.argv[1], int(sys.argv[2])
data = {sys.intern(f"planted key {i}"): (i + 1000, f"value {i}") for i in range(count)}
cowfreeze.freeze()
read_end, write_end = os.pipe()
witness = _core.Witness()
pid = os.fork()
if pid == 0:
    audit = _core.WorkerAudit(witness)
    total = 0
    for key, (number, text) in data.items():
        total += len(key) + number + len(text)
    audit.measure_into(write_end)
    _core.measure_at_exit(witness, write_end)
    if way == "fast":
        cowfreeze.fast_exit(7)
    if way == "exit":
        sys.exit(7)
    if way == "traceback":
        sys.stderr = None  # type: ignore[assignment]
        raise ValueError("planted")
else:
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        data_read = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    before, after = (
        _core.decode_record(data_read[at : at + _core.RECORD_SIZE])["copied_pages"] for at in (0, _core.RECORD_SIZE)
    )
    page = os.sysconf("SC_PAGE_SIZE")
    print(json.dumps({"status": status, "bytes": (after - before) * page, "before": before * page}))
