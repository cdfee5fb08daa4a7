"""Captured bytes: what comes out is what went in, and it is held once."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.captured import Captured

MIB = 1 << 20


@given(st.lists(st.integers(0, 3 * MIB // 8), max_size=12))
def test_the_value_is_all_chunks_in_their_order(sizes: list[int]) -> None:
    """Whenever it is asked for, and as often."""
    captured, chunks = Captured(), []
    for number, size in enumerate(sizes):
        chunk = bytes([number]) * size
        captured.append(chunk)
        chunks.append(chunk)
        assert captured.value() == b"".join(chunks)
    assert captured.value() == captured.value() == b"".join(chunks)


def test_a_single_chunk_is_the_value_itself() -> None:
    """As most outputs are."""
    captured, chunk = Captured(), b"abc"
    captured.append(chunk)
    assert captured.value() is chunk
    assert Captured().value() == b""


def test_a_large_output_is_held_once() -> None:
    """Not as chunks, and once more as their sum."""
    captured, chunk = Captured(), bytes(MIB)
    tracemalloc.start()
    try:
        for _ in range(64):
            captured.append(chunk)
        value = captured.value()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(value) == 64 * MIB
    assert peak < 1.3 * len(value)
