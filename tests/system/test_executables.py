# The functions of `os` are what these tests are about.
# ruff: noqa: PTH117, PTH121
"""Which file a name stands for, and what a failed start meant."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest

from penstock.system import executables, process, spawn
from penstock.system.spawn_request import SpawnRequest

if TYPE_CHECKING:
    from pathlib import Path


def make(path: Path, content: bytes = b"#!/bin/sh\nexit 0\n", mode: int = 0o755) -> Path:
    """Write a file with that mode, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_bare_name_is_the_first_on_the_childs_path(tmp_path: Path) -> None:
    """Not on this process's own."""
    make(tmp_path / "b" / "prog")
    make(tmp_path / "c" / "prog")
    path = f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert executables.resolve("prog", path=path, cwd=None) == f"{tmp_path}/b/prog"


def test_no_path_is_the_systems_default() -> None:
    """As execvp(3)."""
    assert executables.resolve("sh", path=None, cwd=None) in {"/bin/sh", "/usr/bin/sh"}


@pytest.mark.parametrize("path", ["", ":", ".", "bin", "./bin:bin:", "::"])
def test_empty_and_relative_entries_are_skipped(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would stand for a folder of the caller's or of the child's, and neither was meant."""
    make(tmp_path / "prog")
    make(tmp_path / "bin" / "prog")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such program on PATH: 'prog'"):
        executables.resolve("prog", path=path, cwd=str(tmp_path))


def test_a_file_that_cannot_run_does_not_end_the_search(tmp_path: Path) -> None:
    """A folder of that name, a file without the mode: the next entry is tried, as execvp(3) does."""
    (tmp_path / "a" / "prog").mkdir(parents=True)
    make(tmp_path / "b" / "prog", mode=0o644)
    path = f"{tmp_path}/a:{tmp_path}/b"
    with pytest.raises(PermissionError, match="a folder, not a program"):
        executables.resolve("prog", path=path, cwd=None)
    with pytest.raises(PermissionError, match="not executable"):
        executables.resolve("prog", path=f"{tmp_path}/b", cwd=None)
    make(tmp_path / "c" / "prog")
    assert executables.resolve("prog", path=f"{path}:{tmp_path}/c/", cwd=None) == f"{tmp_path}/c/prog"


def test_an_empty_name_is_not_a_program() -> None:
    """Nor is it the folder it would be joined to."""
    with pytest.raises(FileNotFoundError):
        executables.resolve("", path="/bin", cwd=None)


@pytest.mark.parametrize("program", ["./prog", "sub/../prog", "../{}/prog", "./sub/prog"])
def test_a_relative_path_is_the_callers(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gotcha 20: whatever folder the child runs in."""
    make(tmp_path / "prog")
    make(tmp_path / "sub" / "prog")
    monkeypatch.chdir(tmp_path)
    found = executables.resolve(program.format(tmp_path.name), path="/bin", cwd="/")
    assert os.path.isabs(found)
    assert os.path.samefile(found, program.format(tmp_path.name))


def test_dots_behind_a_link_mean_what_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`link/../prog` is beside the link's target, not beside the link."""
    make(tmp_path / "there" / "prog")
    (tmp_path / "there" / "folder").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "folder")
    monkeypatch.chdir(tmp_path / "here")
    found = executables.resolve("link/../prog", path=None, cwd=None)
    assert os.path.samefile(found, tmp_path / "there" / "prog")


def test_a_path_that_only_the_child_would_find_is_missing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gotcha 20."""
    make(tmp_path / "elsewhere" / "prog")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"caller's working directory.*: './prog'"):
        executables.resolve("./prog", path=None, cwd=str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"no such program: './prog'"):
        executables.resolve("./prog", path=None, cwd="/")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("missing", FileNotFoundError, "no such program"),
        ("file/below", FileNotFoundError, "no such program"),
        ("plain", PermissionError, "not executable"),
        ("folder", PermissionError, "a folder, not a program"),
        ("loop", OSError, "symbolic links"),
    ],
)
def test_a_path_that_cannot_run_says_why(name: str, kind: type[OSError], text: str, tmp_path: Path) -> None:
    """Before anything is started."""
    make(tmp_path / "file")
    make(tmp_path / "plain", mode=0o644)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(kind, match=text) as caught:
        executables.resolve(f"{tmp_path}/{name}", path=None, cwd=None)
    assert caught.value.filename == f"{tmp_path}/{name}"


def fail(executable: str, *, cwd: str | None = None, argument: str = "") -> OSError:
    """Start what cannot start; return the error, explained."""
    with pytest.raises(OSError, match="Errno") as caught:
        process.kill_and_reap(spawn.spawn(SpawnRequest(executable, ["prog", argument], {}, cwd)))
    explained = executables.explain_failure(caught.value, program="prog", executable=executable, cwd=cwd)
    assert type(explained) is type(caught.value)
    assert explained.errno == caught.value.errno
    return explained


@pytest.mark.usefixtures("spawner")
class TestExplained:
    """Real failures, of either mechanism."""

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        """Gotcha 21: it is the folder that is missing, not the program."""
        error = fail("/bin/true", cwd=f"{tmp_path}/gone")
        assert isinstance(error, FileNotFoundError)
        assert str(error) == f"[Errno {errno.ENOENT}] no such working directory: '{tmp_path}/gone'"

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        """Gotcha 21."""
        file = make(tmp_path / "file")
        assert str(fail("/bin/true", cwd=str(file))).endswith(
            f"the working directory is not a folder: '{file}'"
        )

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
    def test_a_folder_that_may_not_be_entered(self, tmp_path: Path) -> None:
        """Gotcha 21."""
        (tmp_path / "shut").mkdir(mode=0o600)
        assert "not allowed to enter" in str(fail("/bin/true", cwd=f"{tmp_path}/shut"))

    def test_a_program_that_vanished(self, tmp_path: Path) -> None:
        """Between the search and the start."""
        assert str(fail(f"{tmp_path}/gone", cwd="/")).endswith(f"no such program: '{tmp_path}/gone'")

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"#!/nowhere/lua -x\n", "no such interpreter '/nowhere/lua', which the script names"),
            (b"#! /bin/sh\r\n", "no such interpreter '/bin/sh\\r'"),
            (b"#!/etc/passwd\n", "the interpreter '/etc/passwd' of the script is not executable"),
            (b"#!/etc\n", "the interpreter '/etc' of the script is not executable"),
            (b"echo no first line\n", "not an executable format"),
            (b"", "not an executable format"),
        ],
    )
    def test_a_script_that_cannot_run(self, tmp_path: Path, content: bytes, text: str) -> None:
        """Names the interpreter, which is what is missing; a CR at its end is made visible."""
        script = make(tmp_path / "script", content)
        error = fail(str(script))
        assert text in str(error)
        assert error.filename == str(script)

    def test_arguments_that_are_too_long(self) -> None:
        """The name of the program is shown, the arguments are not."""
        assert re.search(
            r"together are too long to start: 'prog'", str(fail("/bin/true", argument="x" * 200_000))
        )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EAGAIN, "no more processes are allowed"),
        (errno.ENOMEM, "not enough memory"),
        (errno.EMFILE, "too many open files in this process"),
        (errno.ENFILE, "too many open files in the system"),
        (errno.ETXTBSY, "open for writing"),
        (errno.EACCES, "not allowed to execute"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_refusals_of_the_system_are_said_in_words(number: int, text: str) -> None:
    """Those that a test cannot well provoke."""
    error = executables.explain_failure(
        OSError(number, "raw"), program="prog", executable="/bin/true", cwd=None
    )
    assert text in str(error)
    assert type(error) is type(OSError(number, ""))


def test_a_missing_loader_is_told_from_a_missing_program(tmp_path: Path) -> None:
    """A binary for another C library gives ENOENT too."""
    binary = make(tmp_path / "binary", b"\x7fELF\2\1\1")
    error = executables.explain_failure(
        FileNotFoundError(errno.ENOENT, "raw"), program="prog", executable=str(binary), cwd=None
    )
    assert "dynamic loader" in str(error)


def test_an_error_without_a_number_stays_as_it_is() -> None:
    """There is nothing to explain."""
    error = ChildProcessError("the launcher ended")
    assert executables.explain_failure(error, program="prog", executable="/bin/true", cwd=None) is error
