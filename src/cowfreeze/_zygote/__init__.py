"""The room of `cowfreeze.Zygote`: a process that loads, freezes and forks workers, and can be replaced.

    zygote.py       Zygote: the handle in the program that made it; generations that follow each other
    generation.py   one process of it, as its parent sees it: start, wait for the load, fork, retire
    context.py      the multiprocessing context: Process, and Popen that asks a generation for a fork
    data.py         the handle of what was loaded; in a worker it is the object
    server.py       what runs in the fresh interpreter: load, warm, freeze
    rehearsal.py    what each worker does around its task, done before the freeze
    loop.py         then: fork, pass on exit statuses
    program.py      a forked process becomes what `python -m ...` would start
    popen.py        zygote.popen: its subprocess.Popen
    door.py         the server's side of `cowfreeze zygote run`
    serve.py        `cowfreeze zygote serve`
    worker.py       what server and worker know: the data, and where to ask for another fork
    report.py       ZygoteReport

It stands on `multiprocessing.forkserver`: Generation is a ForkServer, a worker starts by the
stdlib's `_serve_one`. The loop of the server is our own, because the stdlib's ends, without passing
on its last worker's exit status, when its parent lets go; a zygote's does so at each reload. And what
the stdlib forks cannot end as a program does.
"""
