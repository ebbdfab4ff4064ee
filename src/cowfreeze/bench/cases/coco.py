"""COCO's training annotations, synthesised: 860,001 dicts in the original, 2.4 GB of objects.

The distribution of polygon lengths gives the original's 505 MiB of pickles and 616 bytes per
element; run-length encoded masks (iscrowd 1) are not modelled. --size scales it; the default is
a tenth, because the workers of the modes that share nothing copy it several times.
"""

from __future__ import annotations

import random
from typing import Any

from cowfreeze.bench.cases.base import Case, deep


def build(size: int) -> list[dict[str, Any]]:
    """SIZE annotations; the same ones in every process."""
    draw = random.Random(0)
    number = draw.random
    found = []
    for i in range(size):
        points = max(3, int(draw.lognormvariate(2.93, 0.80)))
        found.append(
            {
                "segmentation": [[round(number() * 640, 2) for _ in range(2 * points)]],
                "area": number() * 1e4,
                "iscrowd": 0,
                "image_id": 100_000 + draw.randrange(480_000),
                "bbox": [round(number() * 640, 2) for _ in range(4)],
                "category_id": 1 + draw.randrange(90),
                "id": 1_000_000 + i,
            }
        )
    return found


CASE = Case("coco", "annotations in the shape of COCO's (the original has 860,001)", "dicts", 86_000, 3100, build, deep)
