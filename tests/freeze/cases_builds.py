"""What only some builds do: huge pages, old stable-ABI extensions."""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import cowfreeze
from helpers.cases import HAS_FLAGS, HAS_IMMORTAL, copied_by, count_of, is_marked, needs, pages_of, vm_flags
from freeze.zoo import text

SOURCE = r"""
/* Counts references as extensions built against the stable ABI of 3.8 do: inline, unchecked. */
#define Py_LIMITED_API 0x03080000
#include <Python.h>

static PyObject *
same(PyObject *self, PyObject *op)
{
    (void)self;
    (*(Py_ssize_t *)op)++;
    return op;
}

static PyObject *
hold_and_drop(PyObject *self, PyObject *op)
{
    (void)self;
    (*(Py_ssize_t *)op)++;
    --*(Py_ssize_t *)op;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"same", same, METH_O, "a new reference to the argument"},
    {"hold_and_drop", hold_and_drop, METH_O, "count up and down"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "oldabi", NULL, -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_oldabi(void)
{
    return PyModule_Create(&definition);
}
"""


def build(name: str, source: str) -> Any:
    """Compile the C text as the extension module NAME and import it; skips without a compiler."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        path, library = Path(folder, f"{name}.c"), Path(folder, f"{name}.so")
        path.write_text(source)
        includes = [f"-I{sysconfig.get_path('include')}", f"-I{sysconfig.get_path('platinclude')}"]
        command = [*compiler, "-shared", "-fPIC", "-O1", *includes, str(path), "-o", str(library)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            needs(False, f"no C compiler ({compiler[0]})")
        assert done.returncode == 0, done.stderr
        spec = importlib.util.spec_from_file_location(name, library)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def old_stable_abi() -> dict[str, Any]:
    """100,000 references that the extension counts and the interpreter drops unseen."""
    module = build("oldabi", SOURCE)
    data = [text()]
    cowfreeze.freeze(data)
    before = count_of(data[0])
    for _ in range(100_000):
        module.same(data[0])
        module.hold_and_drop(data[0])
    value = data[0]
    return {
        "drift": count_of(data[0]) - before,
        "marked": is_marked(data[0]),
        "frozen": cowfreeze.is_frozen(data[0]) is HAS_IMMORTAL,
        "equal": value == data[0] and value.startswith("zoo value"),
        "flags": HAS_FLAGS,
    }


def huge_pages() -> dict[str, Any]:
    """3.15 advises huge pages for its arenas: khugepaged in a worker would copy what is shared."""
    rows = [[text(), k * 0.5] for k in range(60_000)]
    pages = pages_of(rows) | pages_of(row[0] for row in rows)
    before = vm_flags(pages)
    needs(any("hg" in flags for flags in before), "this build advises no huge pages")
    cowfreeze.freeze(rows)
    after = vm_flags(pages)
    return {
        "before": sum("hg" in flags for flags in before),
        "after": sum("hg" in flags for flags in after),
        "copied": len(copied_by(lambda: [row[0] for row in rows]) & pages),
    }


def special_names() -> dict[str, Any]:
    """A name that was computed before the freeze becomes a special method's after it, as in unittest.mock."""
    names = [f"__{word}__" for word in ("int", "len", "call")]
    report = cowfreeze.freeze(names)

    class Late:
        pass

    for name in names:
        setattr(Late, name, lambda self: 3)
    late: Any = Late()
    return {"values": [int(late), len(late), late()], "marked": [is_marked(name) for name in names], **report.skipped}
