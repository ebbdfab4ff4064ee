"""The one place that asks a result for the causes of its copied pages."""

from __future__ import annotations

from typing import Any

from cowfreeze._plugin.result import Explanation
from cowfreeze._workers.processes import error_text
from cowfreeze._workers.report import WorkersResult

TOP = 10


def not_asked() -> Explanation:
    return Explanation(None, None, "not asked for: run with --cow-explain")


def explain(result: WorkersResult) -> Explanation:
    """The top causes as text and plain data, or why there are none.

    It runs in the zygote, right after the workers: only there is the memory that the
    addresses of an explanation are about.
    """
    ask: Any = getattr(result, "explain", None)
    if ask is None:
        return Explanation(
            None, None, "not available: this version of cowfreeze cannot attribute copied pages"
        )
    try:
        explanation = ask(top=TOP)
    except Exception as error:  # the figures must not get lost with it
        return Explanation(None, None, f"not available: {error_text(error)}")
    to_dict = getattr(explanation, "to_dict", None)
    return Explanation(str(explanation), to_dict() if to_dict is not None else None, None)
