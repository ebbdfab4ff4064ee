"""Entry of a case's process: ``run_case.py FOLDER.MODULE CASE``, arguments as JSON on stdin.

The answer goes to the standard output that the process was started with; what the case prints
goes to stderr, so that it cannot be taken for the answer. What the tests share is imported by its
name below tests/, here as in the tests.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys


def main() -> None:
    faulthandler.enable()
    arguments = json.loads(sys.stdin.read())
    answer_to = os.dup(1)
    os.dup2(2, 1)
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    module = importlib.import_module(sys.argv[1])
    from helpers.cases import Skip

    try:
        answer = {"result": getattr(module, sys.argv[2])(*arguments)}
    except Skip as reason:
        answer = {"skip": str(reason)}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(answer_to, data) :]


if __name__ == "__main__":
    main()
