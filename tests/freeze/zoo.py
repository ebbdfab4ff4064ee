"""Kinds of objects, each with what it refers to, listed by hand.

Each entry makes a root and gives the objects that must be frozen with it. They are listed by
hand and not walked for, because a walker that forgets an edge would forget it here too. All of
them are fresh objects, mortal before the freeze.
"""

from __future__ import annotations

import freeze.zoo_data  # noqa: F401  (registers its kinds)
import freeze.zoo_values  # noqa: F401
from freeze.zoo_kinds import KINDS, Plain, text

__all__ = ["KINDS", "Plain", "text"]
