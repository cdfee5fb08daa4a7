"""Amounts of memory as people write them, such as "500MB"."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["binary_size", "parse_size", "show_size"]

_TEXT: Final = r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*"
_UNITS: Final = "KMGTPE"
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(option: str, value: object) -> int:
    """Return a number of bytes, from an int or from a text with a unit.

    kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024. Case does not matter, the
    B may be left out, and a number may have a fraction. Raises TypeError for any other type, and ValueError
    for an invalid text and for less than one byte. Both name `option`.

    >>> parse_size("limit", "500MB"), parse_size("limit", "1.5 GiB"), parse_size("limit", 4096)
    (500000000, 1610612736, 4096)
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{option} must be a number of bytes or a text like '500MB' or '2GiB', not {value!r}")
    if isinstance(value, int):
        size = value
    else:
        import re  # noqa: PLC0415 - most programs never write a size as text

        match = re.fullmatch(_TEXT, value, re.ASCII | re.IGNORECASE)
        if match is None:
            raise ValueError(f"{option} must be a size like '500MB' or '2GiB', not {value!r}")
        unit = (match[2] or "").lower()
        factor = (1024 if unit.endswith("i") else 1000) ** _POWERS[unit[:1]]
        whole, _, fraction = match[1].partition(".")
        # In integers, because a float does not have enough digits.
        size = int(whole) * factor + int(fraction or 0) * factor // 10 ** len(fraction)
    if size < 1:
        raise ValueError(f"{option} must be at least one byte, not {value!r}")
    return size


def show_size(size: int) -> str:
    """Return a size as text for a message.

    >>> show_size(123456789), show_size(999)
    ('123.5 MB', '999 bytes')
    """
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{size / 1000**power:.1f} {unit}"
    return f"{size} bytes"


def binary_size(count: float) -> str:
    """Return a number of bytes in powers of 1024, short enough for a column of figures.

    >>> binary_size(0), binary_size(1023), binary_size(1024), binary_size(1_288_490_189)
    ('0 B', '1023 B', '1.0 KiB', '1.2 GiB')
    """
    if count < 1023.5:
        return f"{count:.0f} B"
    value, place = count / 1024, 0
    while value >= 1023.5 and place < len(_UNITS) - 1:
        value, place = value / 1024, place + 1
    return f"{value:.{1 if value < 99.95 else 0}f} {_UNITS[place]}iB"
