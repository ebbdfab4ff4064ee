"""1.28 million (path, label) pairs: an image data set's index, in the shape of ImageNet's."""

from __future__ import annotations

from cowfreeze.bench.cases.base import Case, deep


def build(size: int) -> list[tuple[str, int]]:
    """SIZE pairs with a path of about 50 characters; labels repeat after 1000 as classes do."""
    return [(f"/data/imagenet/train/n{i % 1000:08d}/n{i % 1000:08d}_{i:08d}.JPEG", i % 1000) for i in range(size)]


CASE = Case("tuples", "(path, label) tuples, an image index in the shape of ImageNet's", "pairs", 1_281_167, 210, build, deep)
