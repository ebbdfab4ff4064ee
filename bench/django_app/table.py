"""The catalogue: 100,000 articles in memory, as a service keeps them that loads its data at boot."""

from __future__ import annotations

from typing import Any

ENTRIES = 100_000
N_GROUPS = 500

ROWS: dict[int, dict[str, Any]] = {}
GROUPS: dict[str, list[dict[str, Any]]] = {}


def load(entries: int = ENTRIES) -> None:
    """Fill ROWS and GROUPS."""
    for number in range(entries):
        row = {
            "id": number,
            "name": f"article {number}",
            "price": number * 0.37 + 1,
            "tags": [f"tag-{number % 97}-{number}", f"colour-{number % 13}-{number}"],
            "weight": number + 1_000,
            "group": f"group {number % N_GROUPS}",
        }
        ROWS[number] = row
        GROUPS.setdefault(str(row["group"]), []).append(row)
