"""Environments: layers over each other, mistakes named when they are made, secrets put back."""

from __future__ import annotations

import contextvars
import threading
import traceback
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.env import check_layer, merge, show
from penstock.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

WORD = "hunter2"


# --- show


@pytest.mark.parametrize(
    ("arg", "shown"),
    [
        ("", ""),
        ("größe", "größe"),
        (b"plain", "plain"),
        ("größe".encode(), "größe"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\udcff", r"\udcff"),
        (Path("/etc/hosts"), "/etc/hosts"),
        pytest.param(Secret(WORD), "***", id="secret"),
        (None, "None"),
        (5, "5"),
    ],
)
def test_show_gives_a_printable_text(arg: object, shown: str) -> None:
    """Strings, bytes and paths as they read; what has no UTF-8 is escaped; a secret is hidden."""
    assert show(arg) == shown


@pytest.mark.slow
@given(st.one_of(st.text(), st.binary(), st.text(st.characters(categories=["Cs"]))))
def test_shown_text_can_always_be_printed(arg: object) -> None:
    """The text can be encoded as UTF-8."""
    show(arg).encode("utf-8")


# --- check_layer


def test_a_layer_is_copied() -> None:
    """A later change of the caller's dict does not reach the pipeline; any mapping will do."""
    mine: dict[str, Any] = {"A": "1"}
    layer = check_layer("env", mine)
    mine["A"] = "2"
    assert layer == {"A": "1"}
    assert check_layer("env", MappingProxyType({"A": None})) == {"A": None}


def test_no_layer_is_an_empty_layer() -> None:
    """None is what an option that was not given is."""
    assert check_layer("env", None) == {}


def test_every_documented_kind_of_value_passes() -> None:
    """A str (an empty one too), a secret, None and a callable."""
    layer = {"A": "", "B": Secret(WORD), "C": None, "D": str, "e.f g": "x=y\n"}
    assert check_layer("env", layer) == layer


@pytest.mark.parametrize("layer", ["A=1", [("A", "1")], {"A"}, 5, b""])
def test_a_layer_that_is_not_a_mapping_is_refused(layer: object) -> None:
    """The `TypeError` names the option."""
    with pytest.raises(TypeError, match=r"^env must be a mapping of names to values, not "):
        check_layer("env", layer)


@pytest.mark.parametrize("value", [1, 1.5, b"x", ["x"], Path("/tmp"), True])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    """The `TypeError` names the option and the variable."""
    with pytest.raises(TypeError, match=r"^env\['PORT'\] must be a str, Secret, None or a callable, not "):
        check_layer("env", {"HOME": "/", "PORT": value})


@pytest.mark.parametrize("name", [1, b"A", None, pytest.param(Secret("A"), id="secret")])
def test_a_name_that_is_not_a_str_is_refused(name: object) -> None:
    """The `TypeError` names the option and the name."""
    with pytest.raises(TypeError, match=r"^env: the name of a variable must be a str, not "):
        check_layer("env", {name: "x"})


@pytest.mark.parametrize("name", ["", "A=B", "=", "A\0", "\ud800"])
def test_a_name_that_no_environment_can_hold_is_refused(name: str) -> None:
    """Empty, with an equals sign or NUL byte, or not to be encoded: a `ValueError` that shows the name."""
    with pytest.raises(ValueError, match=r"^env: the name ") as caught:
        check_layer("env", {name: "x"})
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("wrap", [str, Secret])
@pytest.mark.parametrize("value", [WORD + "\0", WORD + "\ud800"])
def test_a_value_that_no_environment_can_hold_is_refused_and_not_shown(
    wrap: Callable[[str], object], value: str
) -> None:
    """The `ValueError` names option and variable; neither it nor what it came from holds the value."""
    with pytest.raises(ValueError, match=r"^env\['TOKEN'\] ") as caught:
        check_layer("env", {"TOKEN": wrap(value)})
    assert WORD not in str(caught.value)
    assert WORD not in "".join(traceback.format_exception(caught.value))
    assert not isinstance(caught.value, UnicodeError)


def test_bytes_of_an_inherited_variable_pass() -> None:
    """What `os.environ` made of bytes that are no UTF-8 can be given back to a child."""
    assert check_layer("env", {"A": "\udcff"}) == {"A": "\udcff"}


def test_the_option_that_is_named_is_the_one_given() -> None:
    """A command's own environment can be told from its pipeline's."""
    with pytest.raises(TypeError, match=r"^command\(env=\)\['A'\]"):
        check_layer("command(env=)", {"A": 1})


# --- merge


def test_a_later_layer_lies_over_an_earlier_one() -> None:
    """Base, then the pipeline's, then the command's; none of them is changed."""
    base = {"A": "base", "B": "base", "C": "base"}
    assert merge(base, {"A": "pipeline", "B": "pipeline"}, {"A": "command"}) == {
        "A": "command",
        "B": "pipeline",
        "C": "base",
    }
    assert base == {"A": "base", "B": "base", "C": "base"}


def test_none_unsets() -> None:
    """Of the base, of an earlier layer, or nothing at all; a later layer may set it again."""
    assert merge({"A": "1", "B": "1"}, {"A": None, "C": None}) == {"B": "1"}
    assert merge({}, {"A": "1"}, {"A": None}) == {}
    assert merge({"A": "1"}, {"A": None}, {"A": "2"}) == {"A": "2"}


def test_secrets_are_revealed_to_the_child() -> None:
    """What is merged is what the kernel gets."""
    assert merge({}, {"TOKEN": Secret(WORD)}) == {"TOKEN": WORD}


def test_without_layers_the_base_is_copied() -> None:
    """The result is the caller's to keep."""
    base = {"A": "1"}
    result = merge(base)
    assert result == base
    assert result is not base


@pytest.mark.parametrize(("value", "expected"), [("x", {"A": "x"}), ("", {"A": ""}), (None, {})])
def test_a_callable_gives_the_value(value: str | None, expected: dict[str, str]) -> None:
    """A str, or None to unset; an empty str is a value."""
    assert merge({"A": "base"}, {"A": lambda: value}) == expected


def test_a_callable_may_give_a_secret() -> None:
    """For a value that is fetched from a vault at the last moment."""
    assert merge({}, {"A": lambda: Secret(WORD)}) == {"A": WORD}


def test_a_callable_is_called_each_time_in_the_callers_thread_and_context() -> None:
    """So it sees the contextvars of whoever starts the run."""
    current: contextvars.ContextVar[str] = contextvars.ContextVar("current")
    threads: list[threading.Thread] = []

    def value() -> str:
        threads.append(threading.current_thread())
        return current.get("unset")

    def start(text: str) -> dict[str, str]:
        current.set(text)
        return merge({}, {"A": value})

    assert contextvars.copy_context().run(start, "first") == {"A": "first"}
    assert contextvars.copy_context().run(start, "second") == {"A": "second"}
    assert merge({}, {"A": value}) == {"A": "unset"}
    assert set(threads) == {threading.current_thread()}


def test_a_callable_that_a_later_layer_hides_is_not_called() -> None:
    """Its value would reach nobody."""

    def fail() -> str:
        pytest.fail("called for nothing")

    assert merge({}, {"A": fail}, {"A": "1"}) == {"A": "1"}


@pytest.mark.parametrize("value", [1, b"x", ["x"], True, str])
def test_a_callable_that_returns_another_type_is_an_error(value: object) -> None:
    """The `TypeError` names the variable."""
    with pytest.raises(
        TypeError, match="environment variable 'PORT' must return a str, Secret or None, not "
    ):
        merge({}, {"PORT": lambda: value})  # type: ignore[dict-item, return-value]


def test_a_callable_that_returns_what_no_environment_can_hold_is_an_error() -> None:
    """The `ValueError` names the variable and does not show the value."""
    with pytest.raises(ValueError, match="environment variable 'TOKEN' must not contain NUL bytes") as caught:
        merge({}, {"TOKEN": lambda: WORD + "\0"})
    assert WORD not in str(caught.value)


def test_an_exception_of_a_callable_passes_through_with_the_variables_name() -> None:
    """It is the very exception, with a note that says where."""
    error = LookupError("no such entry")

    def fail() -> str:
        raise error

    with pytest.raises(LookupError) as caught:
        merge({}, {"TOKEN": fail})
    assert caught.value is error
    assert error.__notes__ == ["while computing the environment variable 'TOKEN'"]
