"""The room of `cowfreeze.Zygote`: a process that loads, freezes and forks workers, and can be replaced.

    zygote.py       Zygote: the handle in the program that made it; generations that follow each other
    generation.py   one process of it, as its parent sees it: start, wait for the load, fork, retire
    context.py      the multiprocessing context: Process, and Popen that asks a generation for a fork
    data.py         the handle of what was loaded; in a worker it is the object
    server.py       what runs in the fresh interpreter: load, warm, freeze, fork, pass on exit statuses
    worker.py       what server and worker know: the data, and where to ask for another fork
    report.py       ZygoteReport

It stands on `multiprocessing.forkserver`: Generation is a ForkServer, a worker starts by the
stdlib's `_serve_one`. The loop of the server is our own, because the stdlib's ends, without passing
on its last worker's exit status, when its parent lets go; a zygote's does so at each reload.
"""
