"""Settings for `rq worker -c`: the worker itself imports the jobs, as RQ's documentation advises."""

from __future__ import annotations

import jobs

JOBS = jobs
