"""What a user may set for freezes under a host: the same words in every integration.

    argument         variable                   value
    warmup=          COWFREEZE_WARMUP           module:function, or paths: /,/health
    relocate_code=   COWFREEZE_RELOCATE_CODE    1 or 0
    fast_exit=       COWFREEZE_FAST_EXIT        1 or 0
    refreeze=        COWFREEZE_REFREEZE         1 or 0

An argument that is given wins over the variable. A variable with a wrong value is one warning in the
log and counts as not set: the host goes on.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze.integrations._log import warn

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

Warmup = Callable[[], object] | str | Sequence[str] | None


class Settings:
    """Read once, when an integration is set up.

    Attributes:
        warmup: what workers will do, done once before the freeze: a function; "module:function"; or
            paths, which are requested of the application where the host knows it.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: end workers by `cowfreeze.fast_exit`, where the host does not do so itself.
        refreeze: freeze again before later forks when enough is new; else what is new stays unfrozen.
        options: further arguments of `cowfreeze.freeze`.
    """

    __slots__ = ("warmup", "relocate_code", "fast_exit", "refreeze", "options")

    def __init__(
        self,
        warmup: Warmup = None,
        relocate_code: bool | None = None,
        fast_exit: bool | None = None,
        refreeze: bool | None = None,
        **options: Any,
    ) -> None:
        if warmup is not None and not callable(warmup) and not isinstance(warmup, (str, list, tuple)):
            raise TypeError(f'warmup= takes a function, "module:function" or a list of paths, not {warmup!r}')
        if warmup is None:
            warmup = os.environ.get("COWFREEZE_WARMUP") or None
        self.warmup: Warmup = _paths(warmup) if isinstance(warmup, str) and warmup.startswith("/") else warmup
        self.relocate_code = _switch("COWFREEZE_RELOCATE_CODE", relocate_code, False)
        self.fast_exit = _switch("COWFREEZE_FAST_EXIT", fast_exit, False)
        self.refreeze = _switch("COWFREEZE_REFREEZE", refreeze, True)
        self.options = options

    def find_warmup(self, app: object = None) -> Callable[[], object] | None:
        """The warm-up as a function without arguments, or None.

        Args:
            app: a WSGI or ASGI application, if the host knows it.

        Raises:
            CowfreezeError: it cannot be imported, or there is no application to take paths.
        """
        warmup = self.warmup
        if warmup is None or callable(warmup):
            return warmup
        if not isinstance(warmup, str):
            if app is None:
                raise CowfreezeError(
                    "paths as a warm-up need a host that knows the application (gunicorn, uWSGI): name a function, "
                    "which calls cowfreeze.integrations.warm(app, paths)"
                )
            from cowfreeze.integrations._warm import warm

            return lambda: warm(app, warmup)
        module, _, name = warmup.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise CowfreezeError(f"the warm-up {warmup!r} (module:function) cannot be imported: {error}") from error
        if not callable(found):
            raise CowfreezeError(f"the warm-up {warmup!r} is no function, but {type(found).__name__}")
        function: Callable[[], object] = found
        return function

    def to_environment(self) -> dict[str, str]:
        """Variables that say the same to another process.

        Raises:
            TypeError: `warmup` has no name that another process could import.
        """
        variables = {
            "COWFREEZE_RELOCATE_CODE": str(int(self.relocate_code)),
            "COWFREEZE_FAST_EXIT": str(int(self.fast_exit)),
            "COWFREEZE_REFREEZE": str(int(self.refreeze)),
        }
        if isinstance(self.warmup, str):
            variables["COWFREEZE_WARMUP"] = self.warmup
        elif callable(self.warmup):
            name = getattr(self.warmup, "__qualname__", "<")
            if "<" in name or "." in name or self.warmup.__module__ == "__main__":
                raise TypeError(f"warmup= must be importable by another process, as module:function: {self.warmup!r}")
            variables["COWFREEZE_WARMUP"] = f"{self.warmup.__module__}:{name}"
        elif self.warmup is not None:
            variables["COWFREEZE_WARMUP"] = ",".join(self.warmup)
        return variables


def _paths(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _switch(variable: str, given: bool | None, default: bool) -> bool:
    if given is not None:
        return bool(given)
    text = os.environ.get(variable, "").strip().lower()
    if text in _TRUE:
        return True
    if text and text not in _FALSE:
        warn(f"{variable}={text} is neither 1 nor 0: it counts as not set")
        return default
    return False if text else default
