"""Builds cowfreeze._core; everything that pyproject.toml can say stands there.

Environment:
    COWFREEZE_DEBUG=1      keep the C assertions: invariants are looked at (csrc/base/invariants.h)
    COWFREEZE_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer; or names of sanitizers,
                           for example "undefined"
    COWFREEZE_WERROR=1     warnings are errors (CI)
"""

import os
import struct
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup


def refuse(what: str, why: str) -> None:
    sys.exit(f"cowfreeze cannot be built here: {what}. {why}")


if sys.platform != "linux":
    refuse(
        f"the platform is {sys.platform!r}, not Linux",
        "Copied pages are measured with /proc/PID/pagemap, which only Linux has.",
    )
if struct.calcsize("P") != 8:
    refuse(
        "this is a 32-bit Python",
        "The immortal reference counts of 32-bit builds are lost by a single unchecked change.",
    )
if sys.implementation.name != "cpython":
    refuse(
        f"the implementation is {sys.implementation.name!r}, not CPython",
        "cowfreeze writes CPython's object headers.",
    )
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    refuse(
        "this is a free-threaded Python",
        "Its object headers differ and reading a dict or list writes to them; use the default build.",
    )

csrc = Path("csrc")
compile_args = ["-std=c11", "-Wall", "-Wextra", "-O2", "-fvisibility=hidden", "-g1"]
# Cython's generated type slots do not name the fields that 3.15 added.
compile_args.append("-Wno-missing-field-initializers")
link_args: list[str] = []
undef: list[str] = []
define: list[tuple[str, str | None]] = []
if os.environ.get("COWFREEZE_DEBUG") == "1":
    undef.append("NDEBUG")
    define.append(("COWFREEZE_DEBUG", "1"))
sanitizers = os.environ.get("COWFREEZE_SANITIZE")
if sanitizers:
    sanitizers = "address,undefined" if sanitizers == "1" else sanitizers
    sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    compile_args += sanitize
    link_args += sanitize
if os.environ.get("COWFREEZE_WERROR") == "1":
    compile_args.append("-Werror")

setup(
    ext_modules=[
        Extension(
            "cowfreeze._core",
            sources=["src/cowfreeze/_core.pyx", *sorted(str(path) for path in csrc.rglob("*.c"))],
            depends=[
                *sorted(str(path) for path in csrc.rglob("*.h")),
                *sorted(str(path) for path in Path("src/cowfreeze").rglob("*.px[di]")),
            ],
            include_dirs=["csrc"],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            undef_macros=undef,
            define_macros=define,
        )
    ]
)
