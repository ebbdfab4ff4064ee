"""PySpark's own daemon, with the data loaded and nothing frozen: what cowfreeze is compared with."""

from __future__ import annotations

import pyspark.worker  # the worker module, as our daemon has it
import shop

if __name__ == "__main__":
    from pyspark.daemon import manager

    assert pyspark.worker and shop.DATA
    manager()
