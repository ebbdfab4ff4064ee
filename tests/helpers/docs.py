"""Runs the code blocks of a documentation page from top to bottom, in a folder of its own.

    ```python title="shop.py"    is written to that file
    ```python                    is run as a program
    ```sh                        is run by bash; stops at the first command that fails
    ```text                      is compared with what the block before it printed: each line must
                                 occur, in this order, and all that is printed may hold more. Numbers
                                 and sizes stand for any number or size. "..." is any lines

Other kinds (ini, json, no name) are not code. A comment before a block changes what is done with it:

    <!-- docs-test: python=3.12 status=10 needs=gunicorn serve=http://127.0.0.1:8000/ skip="why" -->

`serve=` runs the block in the background, asks that address until it answers, prints the answer
and stops it. Port 8000 is replaced by a free one everywhere, because suites run side by side.
`before="..."` is put in front of a block that shows only a part of a program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.servers import free_port

PORT = "8000"
BLOCK = re.compile(
    r"(?:^[ ]*<!-- docs-test: (?P<options>.*?) -->\n)?^```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.M | re.S,
)
TIME_LIMIT = 120.0  # seconds for one block; none needs more than a few


@dataclass
class Block:
    """A block of a page and what its comment says."""

    kind: str
    title: str
    text: str
    line: int
    options: dict[str, str] = field(default_factory=dict)

    def reason_to_skip(self) -> str:
        """Why it is not run here, "" if it is."""
        if "skip" in self.options:
            return self.options["skip"]
        if "python" in self.options:
            wanted = tuple(int(part) for part in self.options["python"].split("."))
            if sys.version_info < wanted:
                return f"needs Python {self.options['python']}"
        for module in filter(None, self.options.get("needs", "").split(",")):
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed"
        return ""


def blocks(page: Path) -> list[Block]:
    """The blocks of PAGE, in order."""
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        words = shlex.split(match["options"] or "")
        options = {word.partition("=")[0]: word.partition("=")[2] for word in words}
        line = text.count("\n", 0, match.start("kind")) + 1
        found.append(Block(match["kind"], match["title"] or "", match["text"], line, options))
    return found


def shape(line: str) -> str:
    """LINE without what differs from run to run: numbers, units, the width of columns."""
    line = re.sub(r"\d[\d,.:–-]*", "#", line)
    line = re.sub(r"# (?:[KMG]iB|B|ms|s|µs|pages?)\b", "#", line)
    return " ".join(line.replace("now", "#").split())


def missing_line(expected: str, printed: str) -> str:
    """The first line of EXPECTED that PRINTED does not hold in this order; "" if all are there."""
    rest = iter([shape(line) for line in printed.splitlines()])
    for line in expected.splitlines():
        wanted = shape(line)
        if wanted in ("", "...") or set(wanted) <= {"─", " "}:
            continue
        if not any(wanted in found for found in rest):
            return line
    return ""


def run_page(page: Path, folder: Path) -> list[str]:
    """Run PAGE in FOLDER; returns what was skipped and why. A failure is an AssertionError."""
    port = str(free_port())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "110",
    }
    skipped, printed, ran = [], "", False
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        text = "\n".join(filter(None, [block.options.get("before"), block.text])).replace(f":{PORT}", f":{port}")
        if why := block.reason_to_skip():
            skipped.append(f"{where}: {why}")
            ran = ran and block.kind == "text"
        elif block.title:
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif block.kind == "text":
            if ran and (line := missing_line(text, printed)):
                pytest.fail(f"{where}: the page shows {line!r}, the command printed:\n{printed}", pytrace=False)
        elif block.kind in ("sh", "python"):
            printed = _run(block, text, where, folder, environment, port)
            ran = True
    return skipped


def _run(block: Block, text: str, where: str, folder: Path, environment: dict[str, str], port: str) -> str:
    if block.kind == "python":
        (folder / "block.py").write_text(text)
        command = [sys.executable, "block.py"]
    else:
        command = ["bash", "-euo", "pipefail", "-c", text]
    output = folder / "printed.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        if "serve" in block.options:
            answer = _ask(block.options["serve"].replace(f":{PORT}", f":{port}"), process, output)
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(TIME_LIMIT)
            return output.read_text(errors="replace") + answer
        status = process.wait(TIME_LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    printed = output.read_text(errors="replace")
    wanted = int(block.options.get("status", 0))
    if status != wanted:
        pytest.fail(f"{where}: exit status {status} instead of {wanted}:\n{text}\n{printed}", pytrace=False)
    return printed


def _ask(address: str, process: subprocess.Popen[bytes], output: Path) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + TIME_LIMIT
    while True:
        try:
            with opener.open(address, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{address}: {error}\n{output.read_text(errors='replace')}", pytrace=False)
            time.sleep(0.1)
