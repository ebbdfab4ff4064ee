"""zygote.popen: a program that is forked does what one that is started does."""

from __future__ import annotations

from pathlib import Path

from zygote.zygote_case import run_case


def test_programs_do_the_same(tmp_path: Path) -> None:
    """Some fifty small programs: status, output, files, effect of signals, behaviour at a terminal."""
    number, different = run_case("cases_programs", "compare", folder=tmp_path, timeout=300).result
    assert number > 50
    assert not different, "\n".join(f"{name}\n  python: {plain}\n  zygote: {forked}" for name, plain, forked in different)


def test_code_scripts_and_what_is_neither(tmp_path: Path) -> None:
    different, errors = run_case("cases_programs", "scripts", folder=tmp_path).result
    assert not different
    assert errors == ["ValueError", "ValueError", "TypeError", "ValueError", "TypeError", "FileNotFoundError"]


def test_it_is_a_popen(tmp_path: Path) -> None:
    result = run_case("cases_programs", "waiting", folder=tmp_path).result
    assert result == [None, True, "TimeoutExpired", -15, True, ["to and fro\n", None]]


def test_random_numbers_differ(tmp_path: Path) -> None:
    assert run_case("cases_programs", "seeds", folder=tmp_path).result == [5, 5, 5]
