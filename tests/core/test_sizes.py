"""Amounts of memory as people write them."""

from __future__ import annotations

import pytest

from penstock.core.sizes import parse_size, show_size


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        (4096, 4096),
        ("4096", 4096),
        ("4096B", 4096),
        ("500MB", 500_000_000),
        ("500 MB", 500_000_000),
        (" 500mb ", 500_000_000),
        ("500M", 500_000_000),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1Ki", 1024),
        ("2GiB", 2 << 30),
        ("2gib", 2 << 30),
        ("3GB", 3_000_000_000),
        ("1TB", 10**12),
        ("1TiB", 1 << 40),
        ("1.5GiB", 3 << 29),
        ("0.1MB", 100_000),
        ("0.5KiB", 512),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_bytes_or_a_text_with_a_unit(written: int | str, size: int) -> None:
    """Decimal units are powers of 1000, binary ones of 1024, and no digit is lost."""
    assert parse_size("limit", written) == size


@pytest.mark.parametrize("written", [1.5, None, True, b"500MB", [1]])
def test_another_type_is_a_type_error_that_names_the_option(written: object) -> None:
    """A float is none: nobody writes half a byte on purpose."""
    with pytest.raises(TypeError, match="limit"):
        parse_size("limit", written)


@pytest.mark.parametrize(
    "written", ["", "MB", "5 apples", "-5MB", "5XB", "1e6", "1.MB", ".5MB", "5MB5", "٣MB", 0, -1, "0", "0.1B"]
)
def test_an_invalid_size_is_a_value_error_that_names_the_option(written: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="limit"):
        parse_size("limit", written)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (52_950_000, "53.0 MB"), (2 << 40, "2.2 TB")],
)
def test_a_size_is_shown_in_the_unit_that_fits(size: int, shown: str) -> None:
    """As a person reads it."""
    assert show_size(size) == shown
