"""What `pytest --cow` in this folder shows: two tests pass, and one fails on purpose."""

from __future__ import annotations

import pytest
from wordindex import Index


@pytest.fixture(scope="module")
def index() -> Index:
    return Index(20_000)


@pytest.mark.cow
def test_finding_keeps_the_index_shared(index: Index) -> None:
    for number in range(20_000):
        assert index.find(f"word {number}")


@pytest.mark.cow
def test_counting_copies_the_index(index: Index) -> None:
    """Fails: `find_and_count` writes into the frozen index."""
    for number in range(20_000):
        assert index.find_and_count(f"word {number}")


def test_several_figures(cow, assert_no_cow) -> None:  # type: ignore[no-untyped-def]
    """The index is built in the zygote, so this process never holds it."""
    result = cow.run(lambda index: len(index.places), preload=lambda: Index(20_000))
    assert result.results == (20_000, 20_000)
    with assert_no_cow(max_copied="512 KiB", info="one question per worker") as measured:
        measured.run(lambda index: index.find("word 7"), preload="index")
