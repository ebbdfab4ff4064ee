"""One module for each place where Python programs fork: it freezes at the right moment.

Nothing here is imported by `import cowfreeze`, and no module here imports its host before it is
used: `pip install cowfreeze` brings none of them.

    gunicorn          -c python:cowfreeze.integrations.gunicorn, or install(globals())
    celery            setup()
    multiprocessing   forkserver_context("your.data"), check_preload(context)
    forkserver        the last entry of a preload list
    concurrent        process_pool_executor(preload=["your.data"])
"""

from __future__ import annotations
