"""Completion scripts: shells accept them, and complete what the parser knows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import cowfreeze

from cowfreeze.cli import COMMANDS, build_parser
from cowfreeze.cli.completion import SHELLS, script

pytest.importorskip("shtab")

# Fill in what a person has typed, call the function, print what would be offered.
BASH = """
set -u
eval "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p cowfreeze | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
ROOT = Path(__file__).resolve().parents[2]


def in_bash(*words: str, cwd: Path = ROOT) -> set[str]:
    text = script(build_parser(), "bash")
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", text, "cowfreeze", *words], capture_output=True, text=True, cwd=cwd, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_command_prints_the_script() -> None:
    done = cowfreeze("completion", "bash")
    assert (done.returncode, done.stdout) == (0, script(build_parser(), "bash") + "\n")
    assert cowfreeze("completion", "tcsh").returncode == 2


def test_without_shtab_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['shtab'] = None; from cowfreeze.cli import main; sys.exit(main(['completion', 'zsh']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cowfreeze: completion needs shtab, which is not installed: pip install 'cowfreeze[completion]'\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_of_every_command_is_in_the_script(shell: str) -> None:
    parser = build_parser()
    verbs = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    names = [name for verb in verbs.values() for action in verb._actions for name in action.option_strings]
    assert len(verbs) == len(COMMANDS) and len(names) > 40
    text = script(parser, shell)
    for command in COMMANDS:
        assert command.name in text
    for name in names:
        assert name.lstrip("-") in text, name


def test_bash_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    assert {"demo", "bench", "audit"} <= in_bash("")
    assert "--help" in in_bash("--")
    assert in_bash("de") == {"demo"}
    assert in_bash("doctor", "--js") == {"--json"}
    assert in_bash("audit", "a:b", "--freeze", "") >= {"none", "data", "heap"}
    assert in_bash("completion", "f") == {"fish"}
    (tmp_path / "data.json").touch()
    assert in_bash("demo", "--json", "da", cwd=tmp_path) == {"data.json"}
    assert in_bash("compare", "da", cwd=tmp_path) == {"data.json"}
    assert in_bash("demo", "--workers", "", cwd=tmp_path) == set()
    assert "bash" in in_bash("run", "--", "bas", cwd=tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_accepts_its_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(script(build_parser(), shell) + "\n")
    done = subprocess.run([shell, "-n", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes() -> None:
    ask = "source (echo $argv[1] | psub); complete -C 'cowfreeze audit --freeze '; complete -C 'cowfreeze do'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask, script(build_parser(), "fish")], capture_output=True, text=True, timeout=60
    )
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert {"none", "heap", "doctor"} <= found.keys(), done
    assert found["doctor"] == next(command.summary for command in COMMANDS if command.name == "doctor")


def test_help_says_how_it_ends_and_no_colour_in_a_pipe() -> None:
    done = cowfreeze("--help")
    assert "exit status" in done.stdout and "NO_COLOR" in done.stdout and "\x1b" not in done.stdout


def test_compare_prints_json() -> None:
    results = ROOT / "bench" / "results"
    old, new = results / "readers-3.12.json", results / "readers-3.14.json"
    if not old.exists():
        pytest.skip("the tests stand alone, without results")
    done = cowfreeze("compare", "--json", str(old), str(new))
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["before"] == str(old) and found["notes"]
    assert all({"case", "mode", "figure", "unit", "before", "after", "change"} == set(one) for one in found["differences"])
    assert len(found["differences"]) > 10
    shown = cowfreeze("bench", "--load", str(new), "--json").stdout
    assert json.loads(shown)["cowfreeze"]["command"].startswith("cowfreeze bench ")
