"""A bare name is looked for on the child's PATH, by the same rules whoever looks for it.

That is the child itself, by way of the C library, where its PATH is the host's; else it is done before there
is a child.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from penstock import StartError, command
from penstock.system import features, spawn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock import Pipeline


NAME = "penstock-tool"


@pytest.fixture(params=["the host's PATH", "the host's PATH, no glibc", "the stage's PATH"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Pipeline]:
    """Make the command whose name is looked for on a PATH."""
    if request.param == "the stage's PATH":
        return lambda path: command(NAME, "word", env={"PATH": path})
    if request.param == "the host's PATH":
        assert spawn.can_use_path_search("true", dict(os.environ)) == features.GLIBC_SPAWN
    else:
        monkeypatch.setattr(features, "GLIBC_SPAWN", False)

    def search(path: str) -> Pipeline:
        monkeypatch.setenv("PATH", path)
        return command(NAME, "word")

    return search


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., str]:
    """Write a program of that name into a folder; gives the folder."""

    def tool(folder: str, text: str = "#!/bin/sh\nprintf '%s' \"$0 $1\"\n", mode: int = 0o755) -> str:
        program = tmp_path / folder / NAME
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(mode)
        return str(program.parent)

    return tool


def _refused(pipeline: Pipeline) -> str:
    with pytest.raises(StartError) as caught:
        pipeline.run()
    return str(caught.value)


def test_the_first_that_may_be_executed_is_run(search: Any, tool: Any, tmp_path: Path) -> None:
    """Not a folder of that name, nor a file that is no program."""
    (tmp_path / "zero" / NAME).mkdir(parents=True)
    plain, first, second = tool("plain", mode=0o644), tool("first"), tool("second")
    found = search(f"/no/such:{tmp_path}/zero:{plain}:{first}:{second}").output()
    assert found == f"{first}/{NAME} word".encode()


def test_programs_that_come_and_go_are_seen_at_once(search: Any, tool: Any, tmp_path: Path) -> None:
    """Nothing of an earlier search is kept."""
    second = tool("second")
    path = f"{tmp_path}/first:{second}"
    assert search(path).output() == f"{second}/{NAME} word".encode()
    first = tool("first")
    assert search(path).output() == f"{first}/{NAME} word".encode()
    (tmp_path / "first" / NAME).unlink()
    assert search(path).output() == f"{second}/{NAME} word".encode()


@pytest.mark.parametrize(
    "path", ["", ":", ".", "bin", "/no/such:", ":/no/such", "/no/such::bin", "./bin:/no/such"]
)
def test_no_entry_that_is_not_absolute_is_searched(
    path: str, search: Any, tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whoever may write to a folder could run programs there."""
    tool("bin")
    tool(".")
    monkeypatch.chdir(tmp_path)
    assert "no such program on PATH" in _refused(search(path))


def test_each_refusal_says_what_it_is(search: Any, tool: Any, tmp_path: Path) -> None:
    """The same as for a path."""
    assert "no such program on PATH" in _refused(search("/no/such"))
    assert "not executable" in _refused(search(tool("plain", mode=0o644)))
    (tmp_path / "folder" / NAME).mkdir(parents=True)
    assert "a folder, not a program" in _refused(search(f"{tmp_path}/folder"))
    assert "no such interpreter '/no/such/sh'" in _refused(search(tool("script", "#!/no/such/sh\n")))
    assert "not an executable format" in _refused(search(tool("garbage", "\1\2\3\4")))
    path = tool("good")
    assert "no such working directory" in _refused(search(path).replace(cwd="/no/such/folder"))
    assert search(path).output() == f"{path}/{NAME} word".encode()


def test_a_path_set_behind_os_environ_is_not_searched(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As children do not get it either."""
    first, second = tool("first"), tool("second")
    monkeypatch.setenv("PATH", first)
    os.putenv("PATH", second)  # undone with the variable
    assert command(NAME, "word").output() == f"{first}/{NAME} word".encode()
