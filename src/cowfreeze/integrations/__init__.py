"""One module for each place where Python programs fork: it freezes at the right moment.

Nothing here is imported by `import cowfreeze`, and no module here imports its host before it is
used: `pip install cowfreeze` brings none of them.

    gunicorn          -c python:cowfreeze.integrations.gunicorn, or install(globals())
    celery            setup()
    multiprocessing   forkserver_context("your.data"), check_preload(context)
    forkserver        the last entry of a preload list
    concurrent        process_pool_executor(preload=["your.data"])
    uwsgi             setup() as the last line of the WSGI module; uwsgi_app: without a change of it
    rq                rq worker --worker-class cowfreeze.integrations.rq.Worker
    torch             data_loader(dataset, num_workers=8)
    pyspark           spark.python.daemon.module=cowfreeze.integrations.pyspark
    tornado           fork_processes(4)
"""

from __future__ import annotations
