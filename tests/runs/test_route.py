"""`route`: lines go to the branches that a function names, or on to the next stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, DEVNULL, PipelineError, command, echo, reading, route, shared

if TYPE_CHECKING:
    from pathlib import Path

CAT = command("cat")


def parity(line: bytes) -> str | None:
    """Return a key for even numbers, and for zero another one."""
    number = int(line)
    return None if number % 2 else "even" if number else "zero"


def numbers(count: int) -> Any:
    """Return a source of numbers, a line each."""
    return command("seq", "0", str(count - 1))


def test_each_line_goes_where_the_function_says() -> None:
    """In order, whole, and nowhere else."""
    routed = numbers(100_000) | route(parity, {"even": CAT, "zero": command("wc", "-l")})
    result = routed.run(stdout=CAPTURE)
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 100_000, 2))
    assert result.output("cat") == b"".join(b"%d\n" % number for number in range(2, 100_000, 2))
    assert int(result.output("wc")) == 1


def test_a_last_line_without_lf_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "even"
    result = (echo("1\n2") | route(parity, {"even": path, "zero": DEVNULL})).run(stdout=CAPTURE)
    assert (result.stdout, path.read_bytes()) == (b"1\n", b"2\n")


def test_a_branch_that_has_had_enough_is_left_out() -> None:
    """Its lines are dropped, and the others get all of theirs."""
    routed = numbers(200_000) | route(parity, {"even": command("head", "-n", "1"), "zero": DEVNULL})
    result = routed.run(stdout=CAPTURE)
    assert result.output("head") == b"2\n"
    assert result.stdout is not None
    assert result.stdout.count(b"\n") == 100_000


def test_with_no_reader_left_it_ends() -> None:
    """As a stage does whose next one has had enough; an endless source is no obstacle."""
    endless = command("yes", "2") | route(
        parity, {"even": command("head", "-n", "1"), "zero": command("true")}
    )
    result = (endless | command("true")).run(timeout=20)
    assert result.output("head") == b"2\n"


def test_an_unknown_key_names_the_known_ones() -> None:
    """And the lines before it have arrived."""
    with pytest.raises(PipelineError, match=r"has no branch 'odd'; it has \['even'\]") as caught:
        (echo("2\n1\n") | route(lambda n: "odd" if int(n) % 2 else "even", {"even": CAT})).run(stdout=CAPTURE)
    assert caught.value.result is not None
    assert caught.value.result.output("cat") == b"2\n"


def test_a_branch_that_fails_is_named() -> None:
    with pytest.raises(PipelineError, match="sh: exit status 3"):
        (numbers(10) | route(parity, {"even": command("sh", "-c", "exit 3"), "zero": CAT})).run(
            stdout=DEVNULL
        )


def test_ways_that_meet_again_do_not_hang() -> None:
    """The branch waits for a stream that the splitter cannot give it before the route reads on."""
    words = shared(numbers(200_000))
    together = command("comm", "-12", "-", reading(words | command("tail", "-n", "1")))
    sorts = words | route(lambda _line: "all", {"all": command("sort") | together})
    result = sorts.run(stdout=CAPTURE, timeout=30)
    assert result.output("comm") == b"199999\n"


@pytest.mark.parametrize(
    ("fn", "branches", "error"),
    [
        (None, {}, "takes a callable"),
        (parity, {"even": CAT.replace(input="x")}, "branch 'cat' cannot have input"),
        (parity, {"even": 1.5}, "branch"),
        (parity, [CAT], "branches must be a mapping"),
    ],
)
def test_mistakes_are_named_when_it_is_made(fn: Any, branches: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        route(fn, branches)


def test_it_is_named_after_its_function() -> None:
    stage = route(parity, {"even": CAT})
    assert stage.name == "parity"
    assert repr(stage) == "route(parity)"


def test_without_branches_every_line_goes_on() -> None:
    assert (numbers(3) | route(lambda _line: None, {})).output() == b"0\n1\n2\n"
