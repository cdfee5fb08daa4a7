"""The main job on real input: the largest files in the history of a git repository."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock import PipelineError
from penstock.examples import git_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow


PROGRAM = [sys.executable, "-m", "penstock.examples.git_sizes"]
# A folder that no repository lies above, nobody's settings, and a name to commit under.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.invalid",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.invalid",
    "LC_ALL": "C",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    command = ["git", "-c", "init.defaultBranch=main", "-c", "core.autocrlf=false", *arguments]
    ended = subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return ended.stdout.strip()


def commit(folder: Path, files: Mapping[str | bytes, bytes]) -> None:
    """Write files, and commit all that the folder holds."""
    for name, content in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=m")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty repository that the surroundings do not reach into."""
    for name in os.environ.keys() - ENVIRONMENT.keys():
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does, with some environment variables changed."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, **variables},
    )


def test_the_largest_files_come_first_with_their_paths(repository: Path) -> None:
    """Sizes, abbreviated ids and paths, largest first, and the sums over all of them."""
    commit(repository, {"small": b"x" * 10, "dir/large": b"y" * 3000, "dir/middle": b"z" * 200})
    ended = run(repository, "-n", "2")
    assert (ended.returncode, ended.stderr) == (0, "")
    header, first, second, blank, sums = ended.stdout.splitlines()
    assert header.split() == ["size", "on", "disk", "object", "path"]
    size, _, name, path = first.split()
    assert (size, name, path) == ("3,000", git(repository, "rev-parse", "HEAD:dir/large")[:12], "dir/large")
    assert second.split()[0::3] == ["200", "dir/middle"]
    assert blank == ""
    assert sums.startswith("the 2 largest of 3 file versions; in all 3,210 bytes, ")


def test_old_versions_count_too(repository: Path) -> None:
    """What was deleted, or stands on another branch, is part of the history."""
    commit(repository, {"kept": b"x", "deleted": b"y" * 500})
    (repository / "deleted").unlink()
    commit(repository, {"kept": b"xx"})
    git(repository, "checkout", "--quiet", "-b", "other")
    commit(repository, {"elsewhere": b"z" * 400})
    git(repository, "checkout", "--quiet", "main")
    blobs, tally = git_sizes.largest(repository, 10)
    assert [(blob.path, blob.size) for blob in blobs] == [
        (b"deleted", 500),
        (b"elsewhere", 400),
        (b"kept", 2),
        (b"kept", 1),
    ]
    assert (tally.blobs, tally.size) == (4, 903)


def test_it_agrees_with_git_on_many_files(repository: Path) -> None:
    """Every blob is counted once, with git's own size, whatever the order in which git names them."""
    rng = random.Random(1)
    files: dict[str | bytes, bytes] = {
        f"d{i % 7}/f{i}": rng.randbytes(rng.randrange(5000)) for i in range(300)
    }
    commit(repository, files)
    blobs, tally = git_sizes.largest(repository, 1000)
    assert {blob.path.decode(): blob.size for blob in blobs} == {str(k): len(v) for k, v in files.items()}
    assert tally.blobs == 300
    assert [blob.size for blob in blobs] == sorted((len(content) for content in files.values()), reverse=True)
    assert all(git(repository, "rev-parse", f"HEAD:{blob.path.decode()}") == blob.name for blob in blobs[:3])


def test_any_bytes_in_a_path_are_shown_and_none_obeyed(repository: Path) -> None:
    """Spaces and letters stand as they are; control and undecodable bytes are escaped."""
    names = [b"a  b c ", "zwölf".encode(), b"bad\xff", b"clear\x1b[2J", b'quo"te', b"tab\there"]
    commit(repository, {name: b"x" * (100 - i) for i, name in enumerate(names)})
    header, *rows = run(repository).stdout.splitlines()[:-2]
    assert [row[header.index("path") :] for row in rows] == [
        "a  b c",  # and a space that nobody sees
        "zwölf",
        "bad\\xff",
        "clear\\x1b[2J",
        'quo"te',
        "tab\\there",
    ]
    blobs, _ = git_sizes.largest(repository, 10)
    assert [blob.path for blob in blobs] == names


def test_a_path_need_not_fit_the_terminals_encoding(repository: Path) -> None:
    """What the encoding lacks is escaped."""
    commit(repository, {"zwölf": b"x"})
    assert run(repository, PYTHONIOENCODING="ascii").stdout.splitlines()[1].endswith("  zw\\xf6lf")


def test_a_line_feed_in_a_path_does_not_make_two_lines_of_it(repository: Path) -> None:
    """Git cuts such a path at the line feed; the table stays whole."""
    commit(repository, {"first\nblob 9 9 deadbeef second": b"x" * 50, "other": b"y"})
    blobs, tally = git_sizes.largest(repository, 10)
    assert [(blob.path, blob.size) for blob in blobs] == [(b"first", 50), (b"other", 1)]
    assert tally.blobs == 2


def test_a_blob_that_only_a_tag_names_is_found(repository: Path) -> None:
    """It has no path, and is listed without one."""
    commit(repository, {"file": b"x"})
    (repository / "untracked").write_bytes(b"tagged")
    git(repository, "tag", "plain", git(repository, "hash-object", "-w", "untracked"))
    blobs, _ = git_sizes.largest(repository, 10)
    assert [(blob.path, blob.size) for blob in blobs] == [(b"", 6), (b"file", 1)]


def test_an_empty_repository_is_not_an_error(repository: Path) -> None:
    """There is nothing to list, and the program says so."""
    ended = run(repository)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "no files in this repository's history\n",
        "",
    )


@pytest.mark.parametrize("options", [("--bare",), ("--depth=1",), ("--bare", "--depth=1")])
def test_bare_and_shallow_clones_work(repository: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """What is there is listed: all of it in a bare clone, the last commit's files in a shallow one."""
    commit(repository, {"old": b"x" * 30})
    git(repository, "rm", "--quiet", "old")
    commit(repository, {"new": b"y" * 20})
    git(tmp_path, "clone", "--quiet", *options, repository.as_uri(), "clone")
    blobs, _ = git_sizes.largest(tmp_path / "clone", 10)
    expected = [b"new"] if "--depth=1" in options else [b"old", b"new"]
    assert [blob.path for blob in blobs] == expected


def test_a_detached_head_is_enough(repository: Path) -> None:
    """A checkout without branches, as continuous integration makes it, is listed too."""
    commit(repository, {"file": b"x"})
    git(repository, "checkout", "--quiet", "--detach")
    git(repository, "branch", "--quiet", "-D", "main")
    assert [blob.path for blob in git_sizes.largest(repository, 10)[0]] == [b"file"]


def test_a_folder_inside_the_repository_will_do(repository: Path) -> None:
    """As with git itself; and the paths are the repository's."""
    commit(repository, {"dir/file": b"x"})
    assert [blob.path for blob in git_sizes.largest(repository / "dir", 10)[0]] == [b"dir/file"]


def test_the_repository_is_the_one_that_was_asked_for(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook's environment names another one, and does not win."""
    commit(repository, {"file": b"x"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert [blob.path for blob in git_sizes.largest(repository, 10)[0]] == [b"file"]


@pytest.mark.usefixtures("repository")
def test_a_folder_that_is_not_a_repository_is_an_error_in_gits_words(tmp_path: Path) -> None:
    """One line, git's own, and no traceback."""
    (tmp_path / "plain").mkdir()
    ended = run(tmp_path / "plain")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("git_sizes: fatal: not a git repository")
    assert ended.stderr.count("\n") == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is the folder that is missing, not git."""
    ended = run(tmp_path / "missing")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith('git_sizes: starting stage "git": ')
    assert str(tmp_path / "missing") in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_missing_git_is_named(repository: Path) -> None:
    """Without git on PATH the program says what it lacks."""
    ended = run(repository, PATH=str(repository))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith('git_sizes: starting stage "git": ')
    assert ended.stderr.count("\n") == 1


@pytest.mark.usefixtures("repository")
def test_a_failure_is_a_pipeline_error_for_callers(tmp_path: Path) -> None:
    """Who uses the function gets the library's error, with the first stage to blame."""
    with pytest.raises(PipelineError) as caught:
        git_sizes.largest(tmp_path, 10)
    assert (caught.value.stage, caught.value.index) == ("git", 0)


@pytest.mark.parametrize("count", ["0", "-1", "x", ""])
def test_a_count_that_makes_no_sense_is_refused(count: str) -> None:
    """A mistake in the options is exit status 2, as everywhere."""
    ended = run(f"-n{count}" if count else "-n")
    assert ended.returncode == 2
    assert "-n" in ended.stderr


def test_a_reader_that_has_gone_causes_no_traceback(repository: Path) -> None:
    """As in `git_sizes | head`: the program dies of SIGPIPE, quietly."""
    commit(repository, {"file": b"x"})
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run([*PROGRAM, repository], stdout=write, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")


def test_an_interrupt_ends_the_program_and_git_with_it(repository: Path) -> None:
    """Ctrl-C: no traceback, the exit status that a shell expects, and no git that goes on."""
    fifo = repository / "alive"
    os.mkfifo(fifo)
    (repository / "git").write_text(f'#!/bin/sh\nexec 3>"{fifo}"\necho >&3\nexec sleep 1000\n')
    (repository / "git").chmod(0o755)
    path = f"{repository}{os.pathsep}{os.environ['PATH']}"
    environment = {**ENVIRONMENT, "PATH": path}
    with (
        subprocess.Popen(
            [*PROGRAM, repository], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as program,
        fifo.open("rb") as alive,
    ):
        assert alive.read(1) == b"\n"  # a git runs, so the pipeline does
        program.send_signal(signal.SIGINT)
        try:
            assert program.communicate()[0] == b""
        finally:
            program.kill()  # where it has not ended, leaving the block must not wait for it
        assert program.returncode == -signal.SIGINT
        assert alive.read().strip() == b""  # EOF: whoever held the other end has gone
