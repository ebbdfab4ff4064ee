"""The one grammar of sizes: what it takes, what it refuses, how it prints."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cowfreeze._sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("0", 0),
        ("4096", 4096),
        ("12 B", 12),
        ("1 kB", 1000),
        ("1 MB", 1000**2),
        ("1.5 GB", 1_500_000_000),
        ("2 TB", 2 * 1000**4),
        ("256 KiB", 256 * 1024),
        ("256KiB", 256 * 1024),
        ("  1.5\tmib ", 3 * 512 * 1024),
        ("1 GiB", 1024**3),
        ("3 TIB", 3 * 1024**4),
        ("0.1 KiB", 102),  # the fraction of a byte is dropped
        ("1.1 MB", 1_100_000),  # 1.1 * 10**6 is more in floats
        ("9007199254740993 B", 2**53 + 1),  # not a float
    ],
)
def test_what_is_a_size(text: int | str, size: int) -> None:
    assert parse_size(text) == size
    assert type(parse_size(text)) is int


@pytest.mark.parametrize(
    "text",
    ["", " ", "lots", "-1", "-1 KiB", "+1", "1 K", "1 M", "1 KiBs", "KiB", "1e6", "1 000 B",
     "1,5 MB", ".5 MB", "5. MB", "nan", "inf", "0x10", "\u0663 MB", "1 Mb it", -1],
)  # fmt: skip
def test_what_is_no_size_names_the_right_form(text: int | str) -> None:
    with pytest.raises(ValueError, match='max_copied=.*"256 KiB"'):
        parse_size(text, "max_copied")


@pytest.mark.parametrize("value", [None, True, False, 1.5, math.nan, b"1 MB", [1]])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match='"256 KiB"'):
        parse_size(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (256 * 1024, "256 KiB"),
        (1024**2 - 1, "1 MiB"),  # never "1024 KiB"
        (int(12.44 * 1024**2), "12.4 MiB"),
        (1024**3, "1 GiB"),
        (5000 * 1024**4, "5000 TiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_how_a_size_prints(size: int, text: str) -> None:
    assert format_size(size) == text


def test_what_is_printed_can_be_read() -> None:
    for exponent in range(0, 44):
        size = int(1.37 * 2**exponent)
        assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize("value", [None, True, 1.0, "1"])
def test_only_a_number_of_bytes_prints(value: Any) -> None:
    with pytest.raises(TypeError):
        format_size(value)
