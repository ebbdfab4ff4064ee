"""Situations with known truth for the audit; one per process, started by test_audit.py.

    python cases_audit.py NAME [--uid UID] [--huge]

Prints one JSON object. The process is "the parent": it owns an area of memory, forks a witness
and workers. A worker writes a random part of the area and reports what the audit says about it:

    truth    pages of the area that this worker wrote
    false_positives, false_negatives    against truth, by address
    record   the decoded record of measure_into
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable

import cases_rights
import cases_trouble
import cases_writes
from areas import PR_SET_DUMPABLE, Report, drop_to, prctl


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--huge", action="store_true")
    options = parser.parse_args()
    if options.uid is not None:
        drop_to(options.uid)
        # A change of user takes the right to look at oneself; a process started by that user
        # has it.
        prctl(PR_SET_DUMPABLE, 1)
    scenes = {**vars(cases_writes), **vars(cases_rights), **vars(cases_trouble)}
    scenario: Callable[[argparse.Namespace], Report] = scenes[options.name]
    os.write(1, json.dumps(scenario(options)).encode())


if __name__ == "__main__":
    main()
