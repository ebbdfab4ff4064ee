"""fork_workers: fork, run, measure, collect, and leave nothing behind.

    parent                              witness      worker 0 .. N-1
    ------                              -------      ---------------
    flush streams, make channels
    fork ------------------------------> pauses
    fork N times --------------------------------->  audit starts, waits
    "go" ----------------------------------------->  audit measures: start figures
                                                     target(...)
                                                     audit measures: end figures -> mailbox
    <---------------------------------------------- "measured"
    reads PSS and USS of everybody                   waits
    if asked: reads the copied pages and explains them
    "release" ------------------------------------>  pickles and sends its result
    <---------------------------------------------- outcome, result
    reaps it                                         flushes, os._exit
    kills and reaps the witness

Each worker has two ways to the parent. A socket pair carries go, measured, release and
the result. A slot of one shared anonymous mapping, the mailbox, carries what must not
get lost: the audit's record and one line of text. It needs no descriptor, so it still
works when the target has closed all of them.

Why it measures twice: os.fork itself makes the child write to some hundred pages of the
interpreter (thread states, locks, the at-fork functions of threading, random, logging)
before any line of the target runs. That price is the same for every program and nobody
can avoid it by keeping data shared, so it is told apart ("startup"), and what the target
copied are the pages of the second scan that are not among those of the first (judge.c).

What must hold:
 W1  Nothing is imported, logged or formatted in a worker between the fork and the end of
     its measuring: each would write to pages that the parent shares with it.
 W2  Pickling a result writes reference counts of what it reaches, and so does reading
     memory the worker's own state; both come after measuring. All workers are alive and
     none pickles while the parent reads PSS.
 W3  No target starts before the last fork: an error midway finds workers that have done
     nothing yet.
 W4  A worker never returns from work(), and no process but the worker itself (the target
     may fork) writes to its channels: every path ends in os._exit.
 W5  Whatever leaves fork_workers, a result or an exception: all children are reaped, all
     descriptors closed, signal mask and SIGCHLD as they were.
"""
