"""The application that $COWFREEZE_APP names, loaded and frozen for uWSGI.

    COWFREEZE_APP=myapp:app uwsgi -M --module cowfreeze.integrations.uwsgi_app:application ...

Under lazy-apps the application works as it would, and nothing is frozen (see `uwsgi.setup`).
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze.integrations.uwsgi import setup


def load(name: str) -> Any:
    """The object at NAME, "module:attribute"; the attribute defaults to "application".

    Raises:
        CowfreezeError: NAME is empty, or the module has no such attribute.
        ImportError: as `import` raises it.
    """
    module, _, attribute = name.partition(":")
    if not module:
        raise CowfreezeError("cowfreeze.integrations.uwsgi_app needs COWFREEZE_APP=module:attribute in the environment")
    loaded = importlib.import_module(module)
    try:
        return getattr(loaded, attribute or "application")
    except AttributeError as error:
        raise CowfreezeError(f"COWFREEZE_APP={name}: the module has no such attribute") from error


application = load(os.environ.get("COWFREEZE_APP", ""))
setup(application)
