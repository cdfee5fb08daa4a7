"""`merge` and `concat`: whole records as they come, and outputs one after the other."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    LineTooLong,
    Pipeline,
    PipelineError,
    command,
    concat,
    function,
    map_lines,
    merge,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""
CAT = command("cat")


def records(mark: bytes, letter: bytes, count: int) -> list[bytes]:
    """Return records of many lengths, from nothing to more than a pipe holds at once."""
    return [
        letter * (number * 37 % 1000 + (70_000 if number % 500 == 499 else 0)) + mark
        for number in range(count)
    ]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Yield the data in pieces that end anywhere."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("mark", [b"\n", b"\0", b"\r\n", b"--end--", b"aab", b"abab"], ids=repr)
@pytest.mark.parametrize("size", [1021, 65_536, 1_000_003])
def test_no_record_is_cut(mark: bytes, size: int) -> None:
    """With marks of one byte and of several, which are split between two reads."""
    inputs = [records(mark, letter, 700) for letter in (b"x", b"y", b"z")]
    found = merge(*(source(list(pieces(b"".join(each), size))) for each in inputs), records=mark).output(
        timeout=ENDS_S
    )
    assert found.endswith(mark)
    expected = Counter(record for each in inputs for record in each)
    assert Counter(piece + mark for piece in found.split(mark)[:-1]) == expected


@pytest.mark.parametrize("mark", [b"\n", b"\r\n", b"--end--"], ids=repr)
def test_a_mark_in_single_bytes_is_found(mark: bytes) -> None:
    """Each read gives one byte, because the next one is written when that has been read."""
    parts = [b"one", b"two--en", b"", b"--", b"-"]
    data = mark.join(parts) + mark
    found = merge(source([bytes([each]) for each in data]), source([b"x" + mark] * 9), records=mark).output()
    assert Counter(found.split(mark)) == Counter([*parts, *[b"x"] * 9, b""])


@pytest.mark.parametrize(
    ("mark", "data", "expected"),
    [
        (b"\n", b"", b""),
        (b"\n", b"a", b"a\n"),
        (b"\n", b"a\n", b"a\n"),
        (b"\n", b"\n", b"\n"),
        (b"\n", b"a\nb", b"a\nb\n"),
        (b"\r\n", b"a\r", b"a\r\r\n"),
        (b"\r\n", b"a\nb\r\n", b"a\nb\r\n"),
        (b"aa", b"baaa", b"baaaaa"),
        (None, b"a", b"a"),
        (None, b"a\nb", b"a\nb"),
    ],
)
def test_a_last_record_without_its_mark_gets_one(mark: bytes | None, data: bytes, expected: bytes) -> None:
    """Without records nothing is added. Several marks side by side are cut at the last one."""
    assert merge(Pipeline(CAT, input=data), records=mark).output() == expected


def test_a_long_record_is_searched_once_for_its_end() -> None:
    """Not from its beginning on with each read, which took a hundred times as long."""
    zeros = command("head", "-c", "15M", "/dev/zero")
    merge(zeros, records=b"\n\n").run(stdout=DEVNULL, timeout=3)


@pytest.mark.parametrize("mark", [b"\n\n", b"aa", b"aba", b"abab"], ids=repr)
def test_a_mark_that_overlaps_itself_in_pieces_ends_records_as_in_one_piece(mark: bytes) -> None:
    """As `split` finds them, wherever a read ends."""
    rng = random.Random(1)
    for _ in range(40):
        data = bytes(rng.choices(b"ab\n", k=rng.randint(0, 60)))
        parts = [data[start : start + 3] for start in range(0, len(data), 3)]
        *whole, rest = data.split(mark)
        end = rest if not rest or rest.endswith(mark) else rest + mark
        expected = b"".join(record + mark for record in whole) + end
        assert merge(source(parts), records=mark).output() == expected, data


def test_a_mark_that_overlaps_itself_ends_a_record_from_its_beginning_on() -> None:
    """Three line feeds are the end of one paragraph, and the beginning of the next."""
    second, third = threading.Event(), threading.Event()

    def one(_ctx: object, _stdin: Any, stdout: Any) -> None:
        stdout.write(b"x\n\n\n")
        assert third.wait(DEADLINE)
        stdout.write(b"y\n\n")

    def two(_ctx: object, _stdin: Any, stdout: Any) -> None:
        assert second.wait(DEADLINE)
        stdout.write(b"o\n\n")

    chunks = merge(function(one), function(two), records=b"\n\n").iter_bytes(timeout=ENDS_S)
    found = [next(chunks)]
    second.set()
    found.append(next(chunks))
    third.set()
    assert [*found, *chunks] == [b"x\n\n", b"o\n\n", b"\ny\n\n"]


def test_bytes_come_as_they_are_without_records() -> None:
    """All of them, in any order."""
    found = merge(
        command("head", "-c", "300000", "/dev/zero"), source([b"ab" * 1000] * 100), records=None
    ).output()
    assert Counter(found) == Counter({0: 300_000, ord("a"): 100_000, ord("b"): 100_000})


def test_records_come_while_another_input_is_silent() -> None:
    """A merge waits for none of its inputs."""
    release = threading.Event()

    def silent(_ctx: object, _stdin: Any, stdout: Any) -> None:
        release.wait(DEADLINE)
        stdout.write(b"late")

    lines = merge(function(silent), source([b"soon\n"]), records=b"\n").iter_lines()
    assert next(lines) == b"soon"
    release.set()
    assert list(lines) == [b"late"]


def test_a_record_that_never_ends_fails_the_merge() -> None:
    """It is not kept in memory."""
    result = merge(command("head", "-c", "20M", "/dev/zero"), source([b"a\n"])).run(
        stdout=DEVNULL, check=False
    )
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "merge"
    assert isinstance(result.error.cause, LineTooLong)


def test_a_failed_input_fails_the_run_and_the_others_get_through() -> None:
    """The verdict names the stage that failed."""
    broken = command("sh", "-c", "echo a; exit 3")
    for made in (merge, concat):
        result = made(broken, command("seq", "3"), map_lines(bytes.upper)).run(stdout=CAPTURE, check=False)
        assert isinstance(result.error, PipelineError)
        assert result.error.stage == "sh"
        assert sorted((result.stdout or b"").split()) == [b"1", b"2", b"3", b"a"]


@pytest.mark.parametrize("made", [merge, concat])
def test_a_reader_that_has_had_enough_ends_all_inputs(made: Callable[..., Pipeline]) -> None:
    """Endless ones too, and they are forgiven."""
    pipeline = made(command("yes"), command("yes") | CAT, source(iter(lambda: b"y\n", b"")))
    assert (pipeline | command("head", "-2")).text(timeout=ENDS_S) == "y\ny\n"
    lines = pipeline.iter_lines(timeout=ENDS_S)
    assert next(lines) == b"y"
    lines.close()


@pytest.mark.parametrize("made", [merge, concat])
def test_each_input_has_a_stdin_of_its_own(made: Callable[..., Pipeline]) -> None:
    """The stdin of the run is that of no input."""
    pipeline = made(Pipeline(CAT, input=b"one\n"), CAT, Pipeline(CAT, stdin="/proc/self/comm"))
    assert sorted(pipeline.iter_lines()) == sorted([b"one", Path("/proc/self/comm").read_bytes().strip()])
    with pytest.raises(ValueError, match=r"takes no stdin.*; the pipelines that it reads take stdin"):
        pipeline.output(input=b"two")
    with pytest.raises(ValueError, match="must be the first stage"):
        (CAT | pipeline).output()


def test_concat_keeps_the_order() -> None:
    """Though a later input is there before an earlier one, and is more than its pipe holds."""
    data = b"x" * 1_000_000
    slow = command("sh", "-c", "sleep 0.1; echo first")
    assert concat(slow, source([data]), command("echo", "last")).output() == b"first\n" + data + b"last\n"


def test_concat_starts_all_at_once() -> None:
    """The second answers what the first one asks."""
    asked, answered = threading.Event(), threading.Event()

    def ask(_ctx: object, _stdin: Any, stdout: Any) -> None:
        asked.set()
        assert answered.wait(DEADLINE)
        stdout.write(b"asked ")

    def answer(_ctx: object, _stdin: Any, stdout: Any) -> None:
        assert asked.wait(DEADLINE)
        answered.set()
        stdout.write(b"answered")

    assert concat(function(ask), function(answer)).output() == b"asked answered"


@pytest.mark.parametrize("made", [merge, concat])
def test_inputs_of_one_and_within_one_another(made: Callable[..., Pipeline]) -> None:
    """As any pipeline."""
    one = made(command("echo", "a"))
    assert one.output() == b"a\n"
    assert sorted(made(one, made(one, one), one | CAT).iter_lines()) == [b"a"] * 4


@pytest.mark.parametrize("made", [merge, concat])
def test_mistakes_are_named_when_the_graph_is_made(made: Callable[..., Pipeline]) -> None:
    """No inputs, a text, a function, an input that writes somewhere else."""
    with pytest.raises(ValueError, match=rf"{made.__name__}\(\) needs at least one"):
        made()
    with pytest.raises(TypeError, match="not a stage or pipeline"):
        made("cat")
    with pytest.raises(TypeError, match="not a stage or pipeline"):
        made(len)
    with pytest.raises(ValueError, match="cannot have stdout"):
        made(CAT.to("file"))
    with pytest.raises(TypeError, match="name must be"):
        made(CAT, name="")
    assert made(CAT, name="all").run(stdout=DEVNULL).stage("all").kind == made.__name__


@pytest.mark.parametrize("mark", ["\n", b"", 3])
def test_records_are_bytes_or_none(mark: Any) -> None:
    """And not empty."""
    with pytest.raises((TypeError, ValueError), match="records must"):
        merge(CAT, records=mark)
