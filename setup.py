"""Builds cowfreeze._core; everything that pyproject.toml can say stands there.

Environment:
    COWFREEZE_DEBUG=1      keep the C assertions: invariants are looked at (csrc/base/invariants.h)
    COWFREEZE_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer; or names of sanitizers,
                           for example "undefined"
    COWFREEZE_WERROR=1     warnings are errors (CI)
    COWFREEZE_REQUIRE=1    no package without the extension: for servers, where that would be a loss
    COWFREEZE_PURE=1       a package without the extension (py3-none-any), for everywhere else
"""

import os
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup


# Where there can be no extension, installing succeeds all the same, and the package does nothing and says so:
# a team with other laptops than servers has one requirements file. COWFREEZE_REQUIRE=1 refuses instead.
required = os.environ.get("COWFREEZE_REQUIRE", "") not in ("", "0")
why_not: str = runpy.run_path("src/cowfreeze/_support.py")["why_not_this_build"]()
if os.environ.get("COWFREEZE_PURE") == "1":
    why_not = "COWFREEZE_PURE=1 asks for a package without extension"
if why_not and required:
    sys.exit(f"cowfreeze cannot be built here, and COWFREEZE_REQUIRE is set: {why_not}")

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

extension = Extension(
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
    optional=not required,  # no compiler: a package that does nothing, and says why
)
setup(ext_modules=[] if why_not else [extension])
