"""The user's JSON file as the data of `cowfreeze demo`."""

from __future__ import annotations

import json
from typing import Any

from cowfreeze.cli.command import USAGE, CommandError


def json_file(path: str) -> Any:
    """The content of the user's JSON file PATH.

    Raises CommandError (exit status 2) when it cannot be read or is not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}", USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", USAGE) from error
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}", USAGE) from error
    except RecursionError as error:
        raise CommandError(f"{path} nests deeper than this Python's JSON parser reads", USAGE) from error
