"""Paths that no file can have, and relative ones in a working directory that is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import DEVNULL, Limits, Pipeline, StartError, command, echo, map_lines

if TYPE_CHECKING:
    from collections.abc import Callable

BAD = "caf\ud800"
"""Half a surrogate pair, which no encoding of a file system has."""
PATHS: list[Any] = [BAD, Path(BAD), "a\0b", ""]


class Odd:
    """Not a path, although it has the method."""

    def __fspath__(self) -> Any:
        return 5


def never() -> str:
    """Fail: a command that has this in its environment was about to be started."""
    raise AssertionError("started")


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("option", ["cwd", "stdin", "stdout", "stderr"])
@pytest.mark.parametrize("door", ["run", "start", "explain", "replace", "output", "iter_lines", "arun"])
def test_a_path_that_cannot_be_is_a_mistake_in_its_option(door: str, option: str, path: Any) -> None:
    """ValueError that names the option, and not an error of the codec, before anything starts."""
    if isinstance(path, Path) and not path.name:
        return
    if option == "stdout" and door in {"output", "iter_lines"}:
        return
    pipeline = command("cat", env={"X": never}) | map_lines(bytes.upper)

    def use() -> None:
        made: Any = getattr(pipeline, door)(**{option: path})
        if door == "arun":
            asyncio.run(made)

    with pytest.raises(ValueError, match=rf"^{option} ") as caught:
        use()
    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("option", ["cwd", "stderr"])
def test_so_it_is_for_a_command_alone(option: str, path: Any) -> None:
    """When the stage is made."""
    with pytest.raises(ValueError, match=rf"^{option} ") as caught:
        command("true", **{option: path})
    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize("option", ["cwd", "stdin", "stdout", "stderr"])
def test_the_option_of_an_object_without_a_path_is_named(option: str) -> None:
    """Its `__fspath__` returns something else."""
    wrong: dict[str, Any] = {option: Odd()}
    with pytest.raises(TypeError, match=rf"^{option} "):
        command("true").run(**wrong)


def test_a_text_that_cannot_be_encoded_names_its_parameter() -> None:
    """That of `echo`."""
    with pytest.raises(ValueError, match=r"^text cannot be encoded as UTF-8"):
        echo(BAD)
    with pytest.raises(ValueError, match=r"^end cannot be encoded as UTF-8"):
        echo("a", end=BAD)


@pytest.fixture
def _gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that does not exist any more."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


RELATIVE: dict[str, Callable[[], object]] = {
    "./prog": lambda: command("./prog").run(),
    "../prog": lambda: command("../prog").run(cwd="/"),
    "./limited": lambda: command("./limited", limits=Limits(open_files=50)).run(),
    "./async": lambda: asyncio.run(command("./async").arun()),
    "in": lambda: command("cat").run(stdin="in"),
    "in of a function": lambda: map_lines(bytes.upper).run(stdin="in of a function", stdout=DEVNULL),
    "out": lambda: command("true").run(stdout=Path("out")),
    "err": lambda: command("true").run(stderr="err"),
    "its err": lambda: command("true", stderr="its err").run(),
    "folder": lambda: command("true").run(cwd="folder"),
}


@pytest.mark.usefixtures("_gone")
@pytest.mark.parametrize("path", RELATIVE)
def test_a_relative_path_in_a_folder_that_is_gone_says_so(path: str) -> None:
    """And names the path: `No such file or directory` alone would not."""
    with pytest.raises(StartError, match=r"working directory .* is gone") as caught:
        RELATIVE[path]()
    assert isinstance(caught.value.cause, FileNotFoundError)
    assert caught.value.cause.filename == path


@pytest.mark.usefixtures("_gone")
def test_all_that_needs_no_relative_path_runs_there() -> None:
    """A program on PATH, a worker process, absolute paths; and what is missing for another reason."""
    assert command("echo", "a").output() == b"a\n"
    assert map_lines(bytes.upper, isolate="process").output(input=b"a\n") == b"A\n"
    assert command("cat").output(stdin="/dev/null", cwd="/") == b""
    with pytest.raises(StartError, match="no such program"):
        Pipeline(command("/nowhere/prog")).run()
    with pytest.raises(StartError, match="No such file or directory: '/nowhere/in'"):
        command("cat").run(stdin="/nowhere/in")
