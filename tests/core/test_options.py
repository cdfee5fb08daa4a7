"""A pipeline's options: every mistake is named before anything starts."""

from __future__ import annotations

import io
import math
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE, STDOUT, closing
from penstock.core.options import DEFAULTS, check

WRONG_TYPE = [
    ("name", 5),
    ("cwd", 5),
    ("env", "A=1"),
    ("env", {"A": 1}),
    ("inherit_env", 1),
    ("stdin", None),
    ("stdin", True),
    ("stdin", b"data"),
    ("stdin", 1.5),
    ("stdout", None),
    ("stdout", 1.5),
    ("stderr", None),
    ("stderr", 1.5),
    ("input", 5),
    ("input", ["x"]),
    ("on_event", "x"),
    ("on_exception", 5),
    ("timeout", "5"),
    ("timeout", True),
    ("idle_timeout", "5"),
    ("idle_timeout", True),
    ("grace", None),
    ("grace", "2"),
    ("fail_fast", 1),
    ("fail_fast", None),
    ("pipe_size", "64K"),
    ("pipe_size", True),
    ("pipe_size", 1.5),
    ("max_output", True),
    ("max_output", 1.5),
]

WRONG_VALUE = [
    ("name", ""),
    ("cwd", ""),
    ("cwd", "a\0b"),
    ("env", {"": "x"}),
    ("env", {"A=B": "x"}),
    ("env", {"A": "a\0b"}),
    ("stdin", CAPTURE),
    ("stdin", STDOUT),
    ("stdin", -17),
    ("stdin", ""),
    ("stdout", STDOUT),
    ("stdout", ""),
    ("stdout", "a\0b"),
    ("stderr", PIPE),
    ("stderr", ""),
    ("timeout", -1),
    ("timeout", -0.001),
    ("timeout", timedelta(seconds=-1)),
    ("timeout", math.nan),
    ("idle_timeout", 0),
    ("idle_timeout", -1),
    ("idle_timeout", timedelta(0)),
    ("idle_timeout", math.nan),
    ("grace", -1),
    ("pipe_errors", "ignore"),
    ("pipe_errors", None),
    ("pipe_size", 0),
    ("pipe_size", -1),
    ("max_output", 0),
    ("max_output", "lots"),
]

RIGHT = [
    ("name", "mine", "mine"),
    ("cwd", Path("/tmp"), "/tmp"),
    ("cwd", b"/tmp", "/tmp"),
    ("cwd", None, None),
    ("env", {"A": None}, {"A": None}),
    ("stdin", subprocess.PIPE, PIPE),
    ("stdin", subprocess.DEVNULL, DEVNULL),
    ("stdin", INHERIT, INHERIT),
    ("stdin", 0, 0),
    ("stdin", "/etc/hosts", "/etc/hosts"),
    ("stdout", CAPTURE, CAPTURE),
    ("stdout", subprocess.PIPE, PIPE),
    ("stderr", subprocess.STDOUT, STDOUT),
    ("stderr", print, print),
    ("input", b"", b""),
    ("input", "größe", "größe".encode()),
    ("input", bytearray(b"x"), b"x"),
    ("input", None, None),
    ("timeout", None, None),
    ("timeout", 0, 0.0),
    ("timeout", 2, 2.0),
    ("timeout", timedelta(milliseconds=1500), 1.5),
    ("timeout", math.inf, None),
    ("grace", timedelta(seconds=1), 1.0),
    ("pipe_errors", "report", "report"),
    ("pipe_size", 65536, 65536),
]


@pytest.mark.parametrize(("option", "value"), WRONG_TYPE)
def test_a_value_of_the_wrong_type_is_a_type_error_that_names_the_option(option: str, value: object) -> None:
    """Whatever is passed, the message begins with the option."""
    with pytest.raises(TypeError, match=rf"^{option}\b"):
        check({option: value})


@pytest.mark.parametrize(("option", "value"), WRONG_VALUE)
def test_an_invalid_value_is_a_value_error_that_names_the_option(option: str, value: object) -> None:
    """Whatever is passed, the message begins with the option."""
    with pytest.raises(ValueError, match=rf"^{option}\b"):
        check({option: value})


@pytest.mark.parametrize(("option", "value", "kept"), RIGHT)
def test_a_right_value_is_kept_in_one_form(option: str, value: object, kept: object) -> None:
    """Numbers become floats, paths str, subprocess's specials this library's; None and 0 are no absence."""
    checked = check({option: value})
    assert checked == {option: kept}
    assert type(checked[option]) is type(kept)


def test_an_unknown_option_is_a_type_error() -> None:
    """As Python's own for an unknown keyword, and it names it."""
    with pytest.raises(TypeError, match="unknown option 'time_out'"):
        check({"time_out": 1})


def test_the_defaults_pass_their_own_checks() -> None:
    """And are kept as they are."""
    assert check(DEFAULTS) == DEFAULTS
    assert check({"timeout": 5, "fail_fast": False}) == {"timeout": 5.0, "fail_fast": False}


@pytest.mark.parametrize("stdin", [PIPE, INHERIT, "/etc/hosts", 0])
def test_input_and_stdin_cannot_be_given_together(stdin: object) -> None:
    """Also where the input is empty: empty bytes are data."""
    with pytest.raises(ValueError, match=r"^input and stdin "):
        check({"input": b"", "stdin": stdin})


def test_objects_of_the_caller_pass_as_they_are() -> None:
    """Files, iterables and what `closing` wraps are not touched by the check."""
    for stdin in (io.BytesIO(), iter([b"x"]), closing(io.BytesIO()), [b"a", b"b"]):
        assert check({"stdin": stdin})["stdin"] is stdin
    for stdout in (io.BytesIO(), closing(io.BytesIO())):
        assert check({"stdout": stdout})["stdout"] is stdout


def test_specials_are_subprocesses_own_numbers_and_read_as_their_names() -> None:
    """Either library's names mean the same."""
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    assert [repr(special) for special in (PIPE, STDOUT, DEVNULL, CAPTURE, INHERIT)] == [
        "PIPE",
        "STDOUT",
        "DEVNULL",
        "CAPTURE",
        "INHERIT",
    ]


@pytest.mark.parametrize("thing", ["/etc/hosts", None, object()])
def test_closing_takes_what_can_be_closed(thing: object) -> None:
    """A path, for one, is nobody's to close."""
    with pytest.raises(TypeError, match=r"^closing\(\) takes "):
        closing(thing)


def test_paths_of_any_bytes_are_kept() -> None:
    """A cwd that is no UTF-8 comes through as Python shows such names."""
    assert os.fsencode(check({"cwd": b"/tmp/\xff"})["cwd"]) == b"/tmp/\xff"
