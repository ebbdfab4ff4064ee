"""Scenarios and peers side by side, each run in a process of its own.

    command (cli/bench.py)         room: a fresh interpreter per case, mode and round
    ----------------------         ------------------------------------------------
    plan, predict memory
    warm the machine's memory
    for each cell, shuffled ------> build the data, apply the mode, fork workers,
        <------- lines of JSON ---- measure, end
    results, table, chart

    rooms     start such a process, read its lines, end it with everything it started
    cases/    what is built and what a worker does with it
    modes     what is done with it before the fork: nothing, gc.freeze, freeze, peers
    cell      what happens in the room
    runner    the plan and the order
    results   rows, medians, spread, and the file that pyperf reads too
    tables, chart   for people

Importing this package imports nothing: a process that is about to fork and to be measured
must not be filled with modules that it does not use.
"""

from __future__ import annotations
