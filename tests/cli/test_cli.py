"""The command line: what it prints, with which status it ends, and that it starts light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import cowfreeze


def test_version_names_package_and_interpreter() -> None:
    done = cowfreeze("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("cowfreeze ")
    assert sys.version.split()[0] in done.stdout


def test_the_script_and_the_module_are_the_same_program() -> None:
    script = Path(sys.executable).parent / "cowfreeze"
    done = subprocess.run([script, "--version"], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == cowfreeze("--version").stdout


def test_help_lists_every_command_with_an_example() -> None:
    from cowfreeze.cli import COMMANDS

    done = cowfreeze("--help")
    assert done.returncode == 0
    assert "example:" in done.stdout
    for command in COMMANDS:
        assert command.name in done.stdout
        assert command.summary in " ".join(done.stdout.split())
        assert "example:" in cowfreeze(command.name, "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["thaw"], "invalid choice"),
        (["demo", "--workers", "0"], "'0' is not a whole number from 1 up"),
        (["demo", "--workers", "-1"], "'-1' is not a whole number from 1 up"),
        (["demo", "--workers", "two"], "'two' is not a whole number from 1 up"),
        (["demo", "--workers", "1000"], "at most 64"),
        (["demo", "--format", "xml"], "invalid choice"),
        (["demo", "--json", "does-not-exist.json"], "No such file"),
        (["demo", "--json", "/"], "folder"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = cowfreeze(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_expected_error_is_one_line() -> None:
    done = cowfreeze("demo", "--json", "does-not-exist.json")
    assert done.stderr == "cowfreeze: cannot read does-not-exist.json: No such file or directory\n"


def test_starting_imports_neither_rich_nor_the_demo() -> None:
    code = (
        "import sys, cowfreeze; before = set(sys.modules); import cowfreeze.cli; cowfreeze.cli.build_parser();"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "cowfreeze.cli.demo" in loaded  # otherwise this test looks at nothing
    assert not {name for name in loaded if name.partition(".")[0] in {"rich", "psutil", "unicodedata"}}
    assert not {name for name in loaded if name.startswith("cowfreeze.cli._demo")}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["completion", "bash"]])
def test_a_reader_that_goes_away_is_no_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = cowfreeze(*arguments, stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode != 0 or arguments == ["--help"]  # argparse passes over it


def test_a_closed_stdout_is_found_before_the_work(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("[1]")
    done = subprocess.run(
        f"exec '{sys.executable}' -m cowfreeze demo --json '{data}' >&-",
        shell=True,
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == "cowfreeze: standard output is closed: the result has nowhere to go\n"


@pytest.mark.parametrize("arguments", [["--version"], ["completion", "bash"], ["doctor", "--json"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = cowfreeze(*arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1
    assert done.stderr == "cowfreeze: the result cannot be written to standard output: No space left on device\n"
