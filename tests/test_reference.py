"""The tables of options in the README, and the list of public names, are complete and right."""

from __future__ import annotations

import inspect
import io
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    NEXT,
    PIPE,
    STDOUT,
    TEE,
    Pipeline,
    appending,
    atomic,
    closing,
    command,
)

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

OPTIONS = {"option of a pipeline or a run": Pipeline, "option of `command`": command}


class _Reader:
    def read(self, size: int = -1) -> bytes:
        return b"x"[:size]


class _Writer:
    def write(self, data: bytes) -> int:
        return len(data)


END = socket.socket()
"""A socket that nobody uses; it is closed here, because only its type is looked at."""
END.close()

# A value for each row of the table of values.
VALUES: dict[str, Any] = {
    "`DEVNULL`": DEVNULL,
    "`INHERIT`": INHERIT,
    "`CAPTURE`": CAPTURE,
    "`PIPE`": PIPE,
    "`TEE`": TEE,
    "`STDOUT`": STDOUT,
    "`NEXT`": NEXT,
    "a path: str or PathLike": Path("x"),
    "`atomic(path)`": atomic("x"),
    "`appending(path)`": appending("x"),
    "a file descriptor: int": 1,
    "a file object": io.BytesIO(),
    "a socket": END,
    "an object with `read` or `readinto`": _Reader(),
    "an object with `write`": _Writer(),
    "an iterable of bytes": iter([b"x"]),
    "a callable": print,
    "`closing(value)`": closing(io.BytesIO()),
}


def table(first: str) -> dict[str, list[str]]:
    """Return the rows of the README's table whose first column has this heading, by their first cell."""
    lines = iter(README.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    else:
        pytest.fail(f"the README has no table whose first column is {first!r}")
    next(lines)
    rows: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert cells[0] not in rows, f"two rows for {cells[0]}"
        rows[cells[0]] = cells[1:]
    return rows


def defaults(of: Any) -> dict[str, str]:
    """Return the options and how their defaults are written."""
    return {
        f"`{name}`": f"`{getattr(parameter.default, 'name', None) or repr(parameter.default)}`"
        for name, parameter in inspect.signature(of).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("heading", OPTIONS)
def test_each_option_has_a_row_with_its_default(heading: str) -> None:
    """And there is no row for an option that is gone."""
    rows, options = table(heading), defaults(OPTIONS[heading])
    missing = [option for option in options if option not in rows]
    assert not missing, f"add rows for {', '.join(missing)} to the README's table {heading!r}"
    assert {option: cells[0] for option, cells in rows.items()} == options
    assert all(len(cells) == 2 and cells[1] for cells in rows.values())


@pytest.mark.parametrize(("place", "option"), list(enumerate(["stdin", "stdout", "stderr"])))
def test_the_table_says_what_stdin_stdout_and_stderr_take(place: int, option: str) -> None:
    """A value is taken exactly if its cell has more than a dash."""
    rows = table("value")
    assert rows.keys() == VALUES.keys(), "each kind of value needs a row, and an example in this test"
    for row, value in VALUES.items():
        options: Any = {option: value}
        if rows[row][place] == "-":
            with pytest.raises((TypeError, ValueError), match=option):
                Pipeline(command("true"), **options)
        else:
            Pipeline(command("true"), **options)
    marked = [row for row, cells in rows.items() if "**the default**" in cells[place]]
    assert marked == [f"`{inspect.signature(Pipeline).parameters[option].default!r}`"]


def test_each_special_value_has_a_row() -> None:
    """There are no others than these."""
    named = {f"`{value!r}`" for value in type(CAPTURE)}
    assert named <= table("value").keys()


def test_each_public_name_is_in_the_reference() -> None:
    """In a list of its own, once; and no name is there that is not public."""
    items = re.findall(r"^- (.*?):(?: |$)", REFERENCE, re.MULTILINE)
    listed = [re.match(r"\w+", name[0]).group() for item in items for name in re.finditer(r"(?<=`)\w+", item)]  # type: ignore[union-attr]
    listed += re.findall(r"\. `(\w+)` is", REFERENCE)
    assert sorted(listed) == sorted(penstock.__all__)


def test_the_capture_of_stderr_is_named_with_the_first_commands() -> None:
    """In the first part of the README about pipelines, and in that about errors."""
    for title in ("Commands and functions in one pipeline", "Errors"):
        part = README.partition(f"## {title}\n")[2].partition("\n## ")[0]
        assert "captured" in part
        assert "stderr" in part
