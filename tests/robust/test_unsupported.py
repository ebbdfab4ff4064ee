"""Where cowfreeze cannot work, and where COWFREEZE=0 switches it off: no harm, and it is said once."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = """
import sys, warnings
if len(sys.argv) > 1:
    class Finder:  # as if it had been installed without its extension
        @staticmethod
        def find_spec(name, path=None, target=None, find=sys.meta_path[-1].find_spec):
            return None if name == "cowfreeze._core" else find(name, path, target)
    sys.meta_path[-1] = Finder
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import cowfreeze
    assert cowfreeze.supported is False
    data = {"a": [1, 2, {"b": "c"}]}
    called = []
    report = cowfreeze.freeze(data, warmup=lambda: called.append(1), relocate_code=False, threads="refuse")
    cowfreeze.freeze()
    assert called == [1] and report.objects == 0 and "nothing was frozen" in str(report), report
    assert isinstance(report, cowfreeze.FreezeReport) and report.to_dict()["objects"] == 0
    assert cowfreeze.is_frozen(data) is False and not cowfreeze.is_frozen(None)
    copy = cowfreeze.clone(data, "a", 2)
    assert copy == {"b": "c"} and copy is not data["a"][2]
    assert list(cowfreeze.iter_clone(data, "a")) == data["a"]
    packed = cowfreeze.pack(data)
    assert packed == data and packed is not data and packed["a"] is not data["a"]
    for call in (cowfreeze.fork_workers, cowfreeze.assert_shared, cowfreeze.trap):
        try:
            call(len)
        except cowfreeze.UnsupportedError as error:
            assert cowfreeze.unsupported_reason in str(error)
        else:
            raise AssertionError(call)
    for name in cowfreeze.__all__:
        getattr(cowfreeze, name)
    found = []
    cowfreeze.pack(data, report=found.append)
    assert isinstance(found[0], cowfreeze.PackReport) and found[0].objects == 0
    shape = [sorted(one.to_dict()) for one in (report, found[0], cowfreeze.status())]
print([str(one.message) for one in caught])
print(shape)
"""
REAL = """
import cowfreeze
found = []
cowfreeze.pack([1], report=found.append)
print([sorted(one.to_dict()) for one in (cowfreeze.freeze([1]), found[0], cowfreeze.status())])
"""


def run(*arguments: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COWFREEZE")}
    return subprocess.run(
        [sys.executable, *arguments], input=text, capture_output=True, text=True, timeout=120, env=environment | variables
    )


@pytest.mark.parametrize("way", ["switched off", "no extension"])
def test_public_names_do_no_harm_and_say_so_once(way: str) -> None:
    if way == "switched off":
        done = run("-c", PUBLIC, COWFREEZE="0")
        reason = "COWFREEZE=0 in the environment"
    else:
        done = run("-c", PUBLIC, "without")
        reason = "its C extension is missing"
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cowfreeze does nothing here") == 1 and reason in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1] == run("-c", REAL).stdout.splitlines()[-1], "the reports have other keys"


def test_a_silent_fallback_can_be_forbidden() -> None:
    done = run("-c", "import cowfreeze; cowfreeze.freeze()", COWFREEZE="0", COWFREEZE_REQUIRE="1")
    assert done.returncode == 1 and "COWFREEZE_REQUIRE is set" in done.stderr


def test_commands_say_why() -> None:
    done = run("-m", "cowfreeze", "demo", COWFREEZE="0")
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "COWFREEZE=0" in done.stderr, done
    done = run("-m", "cowfreeze", "run", "--", "sh", "-c", "echo out; exit 5", COWFREEZE="0")
    assert (done.returncode, done.stdout) == (5, "out\n")
    assert done.stderr.count("\n") == 1 and "nothing is frozen: COWFREEZE=0" in done.stderr


def test_marked_tests_are_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.cow\ndef test_marked(): assert False\n"
        "def test_fixture(cow): assert False\ndef test_other(assert_no_cow): assert False\ndef test_plain(): pass\n"
    )
    done = run("-m", "pytest", "-rs", "--cow", "-p", "no:cacheprovider", str(tmp_path), COWFREEZE="0")
    assert done.returncode == 0 and "1 passed, 3 skipped" in done.stdout, done.stdout
    assert "COWFREEZE=0 in the environment" in done.stdout


def test_a_host_goes_on() -> None:
    code = (
        "import cowfreeze.integrations.gunicorn as g, logging\nlogging.basicConfig(format='%(name)s %(message)s')\n"
        "space = {}\ng.install(space)\n"
        "class Server:\n"
        "    class cfg: preload_app, dirty_workers = True, 0\n"
        "    class app: callable = None\n"
        "    log = logging.getLogger('gunicorn')\n    pid = 0\n"
        "space['when_ready'](Server)\nspace['pre_fork'](Server, None)\nprint('serving')\n"
    )
    done = run("-c", code, COWFREEZE="0")
    assert (done.returncode, done.stdout) == (0, "serving\n"), done.stderr
    assert done.stderr.count("\n") == 1 and "gunicorn: nothing is frozen: COWFREEZE=0" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sys.platform = 'darwin'", "not Linux"),
        ("sys.platform = 'win32'", "not Linux"),
        ("sys.abiflags = 't'", "free-threaded"),
        ("sys.maxsize = 2**31 - 1", "32-bit"),
        ("import types; sys.implementation = types.SimpleNamespace(name='pypy')", "not CPython"),
    ],
)
def test_builds_without_a_core_are_known(change: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    support = ROOT / "src" / "cowfreeze" / "_support.py"
    if not support.exists():
        pytest.skip("no sources beside the tests")
    for name in ("platform", "abiflags", "maxsize", "implementation"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    code = f"import sys\n{change}\n"
    assert runpy.run_path(str(support))["why_not_this_build"]() == ""
    exec(code, {})
    assert words in runpy.run_path(str(support))["why_not_this_build"]()


def test_a_server_that_must_freeze_does_not_go_on_without() -> None:
    """COWFREEZE_REQUIRE reaches the integrations and `cowfreeze run`."""
    code = (
        "from cowfreeze.integrations._common import freeze_for\nfrom cowfreeze.integrations._settings import Settings\n"
        "freeze_for('host', Settings())\n"
    )
    for arguments in (("-c", code), ("-m", "cowfreeze", "run", "--", "true")):
        done = run(*arguments, COWFREEZE="0", COWFREEZE_REQUIRE="1")
        assert done.returncode != 0 and "COWFREEZE_REQUIRE is set" in done.stderr, done
