"""Sizes of memory: one grammar to read them everywhere, one form to print them.

    size   = number [ unit ]             spaces around both are ignored
    number = digits [ "." digits ]       no sign, no exponent
    unit   = "B"                         1 (also when the unit is left out)
           | "kB" | "MB" | "GB" | "TB"       powers of 1000, as the SI has them
           | "KiB" | "MiB" | "GiB" | "TiB"   powers of 1024, as IEC 80000-13 has them

Upper and lower case are the same. A single letter ("64K") is refused: half of the
tools in use mean 1000 by it and the other half 1024, and a limit that is silently
2.4 % off (10 % for "T") is worse than an error. Sizes are printed in binary units
only, because memory comes in pages and pages are powers of two. A count is a plain int.
"""

from __future__ import annotations

_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_PRINTED = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*"
_FORM = 'give bytes as an int, or a text such as "256 KiB" (1024s) or "1.5 MB" (1000s)'


def parse_size(size: int | str, name: str = "size") -> int:
    """Return a size in bytes.

    Args:
        size: bytes as an int, or a text in the grammar of this module.
        name: what to call the argument in an error.

    Returns:
        Bytes. A fraction of a byte is dropped ("0.1 KiB" is 102).

    Raises:
        TypeError: neither an int nor a str. A bool is refused: True is not a size.
        ValueError: negative, or a text outside the grammar.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(f"{name}={size!r} is not a size: {_FORM}")
    if isinstance(size, int):
        if size < 0:
            raise ValueError(f"{name}={size!r} is negative: {_FORM}")
        return int(size)
    import re  # not at the top: freeze() only prints sizes

    match = re.fullmatch(_SIZE, size)
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{name}={size!r} is not a size: {_FORM}")
    # In whole numbers, because float would make "1.1 MB" 1100000.0000000002 bytes and lose
    # whole bytes above 2**53.
    whole, _, rest = match[1].partition(".")
    scale: int = 10 ** len(rest)
    return int(whole + rest) * factor // scale


def format_size(size: int) -> str:
    """Return bytes as text in binary units: ``512 B``, ``256 KiB``, ``1.5 MiB``.

    At most one decimal, and none where the value is whole or has three digits; so the
    text is for people, and ``parse_size`` of it may differ from SIZE by 5 %.

    Args:
        size: bytes; negative for a difference.

    Raises:
        TypeError: not an int. (None, "unknown", is for the caller to word.)
    """
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size={size!r} is not a number of bytes: give an int")
    sign = "-" if size < 0 else ""
    value = float(abs(size))
    for unit in _PRINTED:
        text = _short(value)
        # Compare what is printed, not the value: 1023.97 KiB prints as 1024 and is 1 MiB.
        if float(text) < 1024 or unit == _PRINTED[-1]:
            break
        value /= 1024
    return f"{sign}{text} {unit}"


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def check_count(value: int, name: str, least: int = 0) -> int:
    """Return VALUE if it is an int of at least LEAST.

    Raises:
        TypeError: not an int (a bool is none).
        ValueError: below LEAST.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not a number: give an int of at least {least}")
    if value < least:
        raise ValueError(f"{name}={value!r} is too small: give an int of at least {least}")
    return value
