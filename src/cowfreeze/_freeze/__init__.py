"""freeze(): checks and warm-up before it, the report of it, moving memory after it."""
