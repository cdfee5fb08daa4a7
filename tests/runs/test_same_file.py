"""Several outputs of a run that are one file, under any names: it is opened once, and no byte is lost."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh

from penstock import (
    DEVNULL,
    INHERIT,
    NEXT,
    Pipeline,
    PipelineError,
    StartError,
    appending,
    atomic,
    closing,
    command,
    concat,
    function,
    map_lines,
    merge,
    reading,
    tee,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hosts import Host

SAYS = "echo out; echo err >&2; echo out2; echo err2 >&2"
SAID = "out\nerr\nout2\nerr2\n"
OLD = "an old text that is longer than what is said\n"


class BytesPath:
    """A PathLike whose path is bytes."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return self._path


OPEN: list[int] = []


def _opened(path: Path) -> str:
    """Open the file, and return the name of the descriptor."""
    OPEN.append(os.open(path, os.O_RDWR))
    return f"/dev/fd/{OPEN[-1]}"


SPELLINGS: dict[str, Callable[[Path], Any]] = {
    "same": str,
    "PathLike": lambda path: path,
    "bytes": lambda path: BytesPath(os.fsencode(path)),
    "relative": os.path.relpath,
    "dots": lambda path: f"{path.parent}/./../{path.parent.name}/{path.name}",
    "symlink": lambda path: path.parent / "symlink",
    "hard link": lambda path: path.parent / "hard",
    "/dev/fd": _opened,
}


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Make a file with two other names."""
    path = tmp_path / "f"
    path.write_text(OLD)
    (tmp_path / "symlink").symlink_to("f")
    (tmp_path / "hard").hardlink_to(path)
    yield path
    while OPEN:
        os.close(OPEN.pop())


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("first", ["stdout", "stderr"])
def test_stdout_and_stderr_may_be_one_file(first: str, spelling: str, file: Path) -> None:
    other = {"stdout": "stderr", "stderr": "stdout"}[first]
    options: Any = {first: file, other: SPELLINGS[spelling](file)}
    sh(SAYS).run(**options)
    assert file.read_text() == SAID


def test_a_file_that_is_missing_is_created(tmp_path: Path) -> None:
    sh(SAYS).run(stdout=tmp_path / "f", stderr=tmp_path / "f")
    assert (tmp_path / "f").read_text() == SAID


@pytest.mark.parametrize("last", ["function", "isolated"])
def test_a_python_stage_shares_it_too(last: str, file: Path) -> None:
    upper = map_lines(bytes.upper) if last == "function" else map_lines(bytes.upper, isolate="process")
    (sh("echo err >&2; echo out") | upper).run(stdout=file, stderr=file)
    assert sorted(file.read_text().splitlines()) == ["OUT", "err"]


def test_two_megabytes_each_are_all_there(file: Path) -> None:
    pipeline = sh("seq 300000 >&2") | sh("cat; seq -f 'x%.0f' 300000 >&2") | sh("cat; seq -f 'y%.0f' 300000")
    pipeline.run(stdout=file, stderr=file)
    numbers = "".join(f"{n}\n" for n in range(1, 300_001))
    letters = Counter("x" * 300_000 + "y" * 300_000)
    assert Counter(file.read_text()) == letters + Counter(numbers * 3)  # programs write blocks, not lines


@pytest.mark.parametrize(
    ("stdout", "stderr", "before"),
    [
        (appending, appending, OLD),
        (str, appending, ""),
        (appending, str, ""),
        (appending, lambda path: appending(path.parent / "hard"), OLD),
        (lambda path: appending(os.fsencode(path)), appending, OLD),
    ],
)
def test_one_that_is_not_appended_to_is_emptied_first(
    stdout: Any, stderr: Any, before: str, file: Path
) -> None:
    sh(SAYS).run(stdout=stdout(file), stderr=stderr(file))
    assert file.read_text() == before + SAID


def test_the_commands_of_a_pipeline_may_name_one_file(file: Path) -> None:
    """The second is started when the first has written."""
    first = sh("echo one >&2", stderr=file)
    second = sh("cat; echo two >&2", stderr=file.parent / "hard")
    third = sh("cat; echo three >&2", stderr=appending(file.parent / "symlink"))
    (first | second | third | sh("cat; echo four >&2", stderr=file)).run(stdout=DEVNULL)
    assert file.read_text() == "one\ntwo\nthree\nfour\n"


def test_one_stage_twice_in_a_pipeline(file: Path) -> None:
    stage = sh("cat; echo err >&2", stderr=file)
    (stage | stage).run(stdout=DEVNULL)
    assert file.read_text() == "err\nerr\n"


@pytest.mark.parametrize("inner", [str, appending, lambda path: path.parent / "hard"])
def test_a_nested_pipeline_may_name_it(inner: Any, file: Path) -> None:
    nested = Pipeline(sh("echo one >&2; echo data"), stderr=inner(file))
    (nested | sh("cat; echo two >&2")).run(stdout=file, stderr=file)
    assert file.read_text() in ("one\ndata\ntwo\n", "one\ntwo\ndata\n")


def test_a_stdout_beside_a_stderr_for_the_next_stage(file: Path) -> None:
    noisy = sh("echo out; echo err >&2", stderr=NEXT, stdout=file)
    (noisy | command("cat")).run(stdout=file.parent / "hard")
    assert file.read_text() == "out\nerr\n"


# Descriptors and files of the caller's. They are never emptied: the caller may have written something.


@pytest.mark.parametrize("kind", ["number", "raw", "buffered", "text", "closing"])
@pytest.mark.parametrize("first", ["stdout", "stderr"])
def test_a_file_object_and_its_path(first: str, kind: str, file: Path) -> None:
    mode, buffering = ("w", -1) if kind == "text" else ("wb", 0 if kind == "raw" else -1)
    with file.open(mode, buffering=buffering) as opened:
        opened.write("head\n" if kind == "text" else b"head\n")
        opened.flush()
        given = {"number": opened.fileno(), "closing": closing(opened)}.get(kind, opened)
        other = {"stdout": "stderr", "stderr": "stdout"}[first]
        options: Any = {first: given, other: file.parent / "hard"}
        sh(SAYS).run(**options)
        if kind != "closing":
            opened.write("tail\n" if kind == "text" else b"tail\n")
    assert file.read_text() == f"head\n{SAID}{'' if kind == 'closing' else 'tail' + chr(10)}"


def test_a_descriptor_given_twice(file: Path) -> None:
    with file.open("wb") as opened:
        sh(SAYS).run(stdout=opened.fileno(), stderr=opened.fileno())
    assert file.read_text() == SAID


def test_our_own_stdout_by_its_name(host: Host) -> None:
    """It is a file there, which the shell would empty: `2> /dev/stdout`."""
    ended = host.run(f"""
        say("before")
        command("sh", "-c", {SAYS!r}).run(stderr="/dev/stdout")
        say("after")
        command("sh", "-c", {SAYS!r}).run(stdout="/dev/stderr", stderr=INHERIT)
        """)
    assert ended.out == f"before\n{SAID}after\n"
    assert ended.err == SAID


# Anything else is opened each time.


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_devices_are_as_ever(path: str) -> None:
    sh(SAYS).run(stdout=path, stderr=path)


def test_a_full_device_fails_the_command_as_ever() -> None:
    with pytest.raises(PipelineError):
        sh("echo out || exit 3").run(stdout="/dev/full", stderr="/dev/full")


def test_a_fifo_is_as_ever(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    run = sh(SAYS).start(stdout=fifo, stderr=fifo)
    os.set_blocking(reader, True)
    data = b""
    while chunk := os.read(reader, 100):
        data += chunk
    run.wait()
    os.close(reader)
    assert sorted(data.split()) == [b"err", b"err2", b"out", b"out2"]


def test_a_pipe_by_its_name_is_as_ever() -> None:
    reader, writer = os.pipe()
    path = f"/dev/fd/{writer}"
    sh(SAYS).run(stdout=path, stderr=path)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert sorted(file.read().split()) == [b"err", b"err2", b"out", b"out2"]


def test_files_of_the_kernel_take_both() -> None:
    path = Path("/proc/self/oom_score_adj")
    value = path.read_text(encoding="utf-8").strip()
    sh(f"echo {value}; echo {value} >&2").run(stdout=path, stderr=path)
    assert path.read_text(encoding="utf-8").strip() == value


def test_two_files_stay_two(tmp_path: Path) -> None:
    sh(SAYS).run(stdout=tmp_path / "out", stderr=tmp_path / "err")
    assert (tmp_path / "out").read_text() == "out\nout2\n"
    assert (tmp_path / "err").read_text() == "err\nerr2\n"


# Mistakes.


@pytest.mark.parametrize("other", ["path", "hard link", "appending", "object"])
def test_a_file_that_is_replaced_at_the_end_takes_no_other_output(other: str, file: Path) -> None:
    """A hard link keeps what is written to it, because only the name is replaced."""
    with file.open("ab") as opened:
        value: Any = {
            "path": file.parent / "symlink",
            "hard link": file.parent / "hard",
            "appending": appending(file),
            "object": opened,
        }[other]
        pipeline: Any = sh(SAYS)
        if other == "hard link":
            pipeline.run(stdout=atomic(file), stderr=value)
            assert (file.read_text(), value.read_text()) == ("out\nout2\n", "err\nerr2\n")
            return
        for options in ({"stdout": atomic(file), "stderr": value}, {"stdout": value, "stderr": atomic(file)}):
            for method in (pipeline.run, pipeline.start, pipeline.explain):
                with pytest.raises(ValueError, match=r"is atomic\(.*which replaces the file that std"):
                    method(**options)
    assert file.read_text() == OLD


@pytest.mark.parametrize("source", ["path", "symlink", "file", "number", "closing"])
def test_a_file_is_not_emptied_before_it_is_read(source: str, file: Path) -> None:
    """The shell's `cat < f > f` loses everything."""
    with file.open("rb") as opened:
        stdin: Any = {
            "path": file,
            "symlink": file.parent / "symlink",
            "file": opened,
            "number": opened.fileno(),
            "closing": closing(opened),
        }[source]
        cases: list[tuple[Pipeline, dict[str, Any], str]] = [
            (Pipeline(command("cat")), {"stdout": file}, "stdout"),
            (command("cat") | command("cat"), {"stdout": DEVNULL, "stderr": file}, "stderr"),
            (command("cat", stderr=file.parent / "hard") | command("cat"), {}, "stderr of 'cat'"),
        ]
        for pipeline, options, name in cases:
            with pytest.raises(ValueError, match=f"stdin and {name} are the same file"):
                pipeline.run(stdin=stdin, **options)
    assert file.read_text() == OLD


def test_a_file_is_not_emptied_before_a_graph_reads_it(file: Path) -> None:
    """Whichever of its ends reads, and whichever writes."""
    source = command("cat").replace(stdin=file)
    cases: list[tuple[Pipeline, dict[str, Any], str]] = [
        (tee(file) | command("cat"), {"stdin": file}, f"stdin and stdout of branch {str(file)!r}"),
        (tee(command("cat").to(file.parent / "hard")), {"stdin": file}, "stdin and stdout of branch 'cat'"),
        (command("sort", reading(source)), {"stdout": file}, "stdin of 'cat' and stdout"),
        (concat(source, source), {"stderr": file}, "stdin of 'cat' and stderr"),
        (merge(source) | tee(file), {}, f"stdin of 'cat' and stdout of branch {str(file)!r}"),
    ]
    for pipeline, options, name in cases:
        for method in (pipeline.run, pipeline.explain):
            with pytest.raises(ValueError, match=f"^{re.escape(name)} are the same file"):
                method(**options)
    assert file.read_text() == OLD


def test_the_branches_of_a_graph_may_name_one_file(file: Path) -> None:
    """It is opened once, and no byte is lost."""
    branches = command("sed", "s/^/1/").to(file), command("sed", "s/^/2/").to(file.parent / "symlink")
    (command("seq", "1000") | tee(*branches, str(file))).run(stdout=file.parent / "hard")
    numbers = [str(number) for number in range(1, 1001)]
    expected = [*numbers, *numbers, *(f"1{each}" for each in numbers), *(f"2{each}" for each in numbers)]
    assert Counter(file.read_text().split()) == Counter(expected)


def test_a_file_may_be_read_and_replaced_or_appended_to(file: Path) -> None:
    command("tr", "a-z", "A-Z").run(stdin=file, stdout=atomic(file))
    assert file.read_text() == OLD.upper()
    command("head", "-c", "2").run(stdin=file, stdout=appending(file))
    assert file.read_text() == f"{OLD.upper()}AN"


def test_our_own_stdin_may_not_be_emptied_either(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text(OLD)
    ended = host.run(f"""
        os.dup2(os.open({str(path)!r}, os.O_RDONLY), 0)
        try:
            command("cat").run(stdin=INHERIT, stdout={str(path)!r})
        except ValueError as error:
            say(error)
        """)
    assert "stdin and stdout are the same file" in ended.out
    assert path.read_text() == OLD


def test_a_device_may_be_read_and_written() -> None:
    command("cat").run(stdin="/dev/null", stdout="/dev/null")


def test_a_path_that_cannot_be_opened_is_still_a_start_error(tmp_path: Path) -> None:
    for stdout, stderr in ((tmp_path, tmp_path), (tmp_path / "no" / "f", tmp_path / "no" / "f")):
        with pytest.raises(StartError):
            sh(SAYS).run(stdout=stdout, stderr=stderr)


def test_nothing_is_kept_open_by_a_run_that_fails_to_start(file: Path) -> None:
    """The leak check of each test looks."""
    with pytest.raises(StartError):
        (sh(SAYS, stderr=file) | command("does-not-exist")).run(stdout=file, stderr=file)


def test_an_object_without_a_descriptor_is_as_ever(file: Path) -> None:
    log = io.BytesIO()
    sh(SAYS).run(stdout=log, stderr=file)
    assert (log.getvalue(), file.read_text()) == (b"out\nout2\n", "err\nerr2\n")


@pytest.mark.parametrize("number", [RuntimeError("no"), "f", -1, 10**9, 2**70, None, 1.5])
def test_an_object_that_only_claims_a_descriptor_is_as_ever(number: Any, file: Path) -> None:
    """Its methods carry the bytes, and nobody asks it for more."""

    class Odd:
        def fileno(self) -> Any:
            if isinstance(number, Exception):
                raise number
            return number

        def read(self, _size: int = -1) -> bytes:
            return b""

        def write(self, data: bytes) -> int:
            return len(data)

    sh("cat; echo err >&2").run(stdin=Odd(), stdout=file)
    sh(SAYS).run(stdout=Odd(), stderr=file)
    assert file.read_text() == "err\nerr2\n"
    sh(SAYS).run(stdout=Odd(), stderr=atomic(file))
    assert file.read_text() == "err\nerr2\n"


def test_a_run_within_a_function_shares_nothing_with_the_run_around_it(file: Path) -> None:
    """Each run opens for itself: documented."""
    inner = sh("echo inner >&2", stderr=file)
    function(lambda _ctx, _stdin, _stdout: inner.run(stdout=DEVNULL)).run(stdout=INHERIT)
    assert file.read_text() == "inner\n"
