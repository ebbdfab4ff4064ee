"""Freezes every interpreter that a test starts, before its first line runs (one_file.py)."""

try:
    import cowfreeze

    cowfreeze.freeze(threads="allow", allow_forked=True)
except ImportError:  # started with another path: -I, -S, a virtual environment of its own
    pass
