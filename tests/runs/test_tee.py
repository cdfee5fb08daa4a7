"""`tee`: what a branch may be, how its output is found, and what happens when a reader leaves or fails."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    NEXT,
    PIPE,
    CaptureLimitExceeded,
    FinishEarly,
    Pipeline,
    PipelineError,
    Result,
    appending,
    atomic,
    closing,
    command,
    concat,
    echo,
    filter_lines,
    function,
    map_lines,
    merge,
    shared,
    tee,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TEXT = b"a\nb\n"
PRINT = command("printf", "a\\nb\\n")
CAT = command("cat")
UPPER = map_lines(bytes.upper)
YES = command("yes")
ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""


def run(pipeline: Pipeline, **options: Any) -> Result:
    """Run it, capture its stdout, and return the result of a failure as well."""
    return pipeline.run(stdout=CAPTURE, check=False, timeout=ENDS_S, **options)


@pytest.mark.parametrize("stage", [CAT, UPPER, CAT | UPPER, UPPER | CAT, transform(iter)], ids=repr)
@pytest.mark.parametrize("after", [None, CAT, UPPER], ids=repr)
@pytest.mark.parametrize("before", [PRINT, echo("a\nb")], ids=repr)
def test_a_branch_gets_everything(before: Any, stage: Any, after: Any) -> None:
    """Commands and functions alike, at each side of the tee."""
    pipeline = before | tee(Pipeline(stage, name="branch"))
    result = run(pipeline if after is None else pipeline | after)
    assert result.error is None
    assert result.stdout == (TEXT.upper() if after is UPPER else TEXT)
    assert result.output("branch") in (TEXT, TEXT.upper())


def test_a_stage_alone_is_a_branch_and_has_its_name() -> None:
    """Also the last stage of a named pipeline finds it."""
    result = run(
        PRINT | tee(command("wc", "-l"), Pipeline(CAT, UPPER, name="loud"), CAT | command("sort", "-r"))
    )
    assert int(result.output("wc")) == 2
    assert result.output("loud") == result.output("upper") == TEXT.upper()
    assert result.output("sort") == b"b\na\n"


def test_an_output_that_is_not_there_is_a_key_error_with_the_names() -> None:
    """And it says so if two branches have the same name."""
    result = run(PRINT | tee(CAT, CAT, command("wc"), DEVNULL))
    with pytest.raises(KeyError, match=r"2 branches are named 'cat'"):
        result.output("cat")
    with pytest.raises(KeyError, match=r"'sum'.* these were: 'cat', 'cat', 'wc'"):
        result.output("sum")
    with pytest.raises(KeyError, match="captured; none was"):
        run(PRINT | CAT).output("cat")


def test_stages_say_which_branch_they_belong_to() -> None:
    """A branch within a branch has its own name."""
    inner = Pipeline(CAT, tee(Pipeline(UPPER, name="inner")), name="outer")
    result = run(PRINT | tee(inner) | command("wc"))
    assert [(stage.name, stage.branch) for stage in result.stages] == [
        ("printf", ""),
        ("tee", ""),
        ("cat", "outer"),
        ("tee", "outer"),
        ("upper", "inner"),
        ("wc", ""),
    ]
    assert result.output("outer") == TEXT
    assert result.output("inner") == TEXT.upper()


def _as_itself(path: Path) -> Iterator[Any]:
    yield path


def _as_text(path: Path) -> Iterator[Any]:
    yield str(path)


def _as_descriptor(path: Path) -> Iterator[Any]:
    number = os.open(path, os.O_WRONLY | os.O_CREAT)
    yield number
    os.close(number)


def _as_file(path: Path) -> Iterator[Any]:
    with path.open("wb") as file:
        yield file


def _as_text_file(path: Path) -> Iterator[Any]:
    with path.open("w") as file:
        yield file


def _as_closed_file(path: Path) -> Iterator[Any]:
    file = path.open("wb")
    yield closing(file)
    assert file.closed


def _as_object(path: Path) -> Iterator[Any]:
    target = io.BytesIO()
    yield target
    path.write_bytes(target.getvalue())


def _as_atomic(path: Path) -> Iterator[Any]:
    yield atomic(path)


def _as_appended(path: Path) -> Iterator[Any]:
    path.write_bytes(b"")
    yield appending(path)


TARGETS = [
    _as_itself, _as_text, _as_descriptor, _as_file, _as_text_file, _as_closed_file, _as_object, _as_atomic,
    _as_appended,
]  # fmt: skip


@pytest.mark.parametrize("through", [None, CAT, UPPER], ids=repr)
@pytest.mark.parametrize("make", TARGETS)
def test_each_target_of_stdout_is_a_branch(make: Any, through: Any, tmp_path: Path) -> None:
    """As it is, and as the end of a branch with stages."""
    path = tmp_path / "copy"
    target = make(path)
    branch = next(target)
    if through is not None:
        branch = Pipeline(through).to(branch)
    assert run(PRINT | tee(branch) | command("wc", "-l")).stdout == b"2\n"
    assert next(target, None) is None
    assert path.read_bytes() == (TEXT.upper() if through is UPPER else TEXT)


def test_sockets_and_devnull_are_branches() -> None:
    """And so are the constants of subprocess."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert run(PRINT | tee(ours, DEVNULL, subprocess.DEVNULL)).stdout == TEXT
        assert theirs.recv(100) == TEXT


def test_capture_is_a_branch() -> None:
    """Without any stages."""
    assert run(PRINT | tee(CAPTURE)).outputs == (("CAPTURE", TEXT),)


def test_inherit_is_a_branch(capfd: pytest.CaptureFixture[str]) -> None:
    """The output of the process gets a copy."""
    assert run(PRINT | tee(INHERIT, CAT.to(INHERIT))).stdout == TEXT
    assert capfd.readouterr().out == TEXT.decode() * 2


def test_an_atomic_branch_of_a_failed_run_is_not_there(tmp_path: Path) -> None:
    """The verdict of the run decides, not that of the branch."""
    path = tmp_path / "copy"
    assert not run(PRINT | tee(atomic(path)) | CAT | command("false"))
    assert list(tmp_path.iterdir()) == []


def test_two_branches_of_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """Their file is opened once, and the one of the stdout as well."""
    path = tmp_path / "copy"
    (PRINT | tee(path, path)).run(stdout=str(path))
    assert path.read_bytes() == TEXT * 3


def test_a_file_that_a_branch_would_empty_cannot_be_read(tmp_path: Path) -> None:
    """Neither by the run nor by a source within it."""
    path = tmp_path / "data"
    path.write_bytes(TEXT)
    with pytest.raises(ValueError, match="stdin and stdout of branch"):
        (CAT | tee(path)).run(stdin=path, stdout=DEVNULL)
    assert path.read_bytes() == TEXT


def test_a_branch_has_a_limit_of_its_own() -> None:
    """The run ends with the branch's name; at the limit itself it does not."""
    branch = Pipeline(CAT, name="copy", max_output=4)
    assert run(PRINT | tee(branch)).output("copy") == TEXT
    result = run(command("printf", "abcde") | tee(branch))
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, CaptureLimitExceeded)
    assert result.error.stage == "copy"
    assert result.output("copy") == b"abcd"


def test_an_endless_branch_ends_at_its_limit() -> None:
    """And so do all other stages."""
    result = run(YES | tee(Pipeline(CAT, name="copy", max_output="1MiB")) | command("wc"))
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, CaptureLimitExceeded)


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        (5.5, "branch '5.5': neither a stage nor a pipeline, and stdout must be"),
        (None, "branch 'None': neither a stage nor a pipeline, and stdout must not be None"),
        (["a"], "branch .* stdout must be .*; write each by itself"),
        (len, "branch .* stdout must be .*; wrap a function"),
        (PIPE, "branch 'PIPE' cannot have a PIPE"),
        (subprocess.PIPE, "cannot have a PIPE"),
        (CAT.to(PIPE), "branch 'cat' cannot have a PIPE"),
        (Pipeline(CAT, name="copy", stdin=DEVNULL), "branch 'copy' cannot have stdin"),
        (Pipeline(CAT, input=b""), "branch 'cat' cannot have input"),
        (Pipeline(CAT, idle_timeout=1), "branch 'cat' cannot have idle_timeout"),
        (Pipeline(CAT, spool=1), "branch 'cat' cannot have spool"),
        (Pipeline(CAT, max_output=1, stdout=DEVNULL), "branch 'cat': max_output"),
    ],
    ids=repr,
)
def test_a_mistake_is_named_when_the_graph_is_made(branch: Any, message: str) -> None:
    """With the branch that it is in."""
    with pytest.raises((TypeError, ValueError), match=message):
        tee(branch)


def test_until_and_name_are_checked() -> None:
    """When the graph is made."""
    with pytest.raises(ValueError, match="until must be"):
        tee("f", until="first")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name must be"):
        tee("f", name="")
    assert run(PRINT | tee(DEVNULL, name="split")).stage("split").kind == "tee"


def test_no_stage_follows_the_last_of_a_branch() -> None:
    """So its stderr cannot go there, though a stage is written after the tee."""
    last = command("sh", "-c", "echo a >&2", stderr=NEXT)
    with pytest.raises(ValueError, match="'sh' is the last"):
        (PRINT | tee(last) | CAT).run()


def test_a_closed_descriptor_is_named() -> None:
    """It cannot be a branch."""
    with pytest.raises(ValueError, match="branch"):
        (PRINT | tee(999_999)).run(stdout=DEVNULL)


def test_a_file_that_cannot_be_opened_names_its_branch(tmp_path: Path) -> None:
    """Nothing has started then."""
    result = run(PRINT | tee(tmp_path / "no" / "file"))
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, FileNotFoundError)
    assert str(tmp_path / "no") in str(result.error)


LEAVERS = [
    command("true"),
    command("head", "-1"),
    function(lambda _c, stdin, stdout: stdout.write(stdin.readline())),
    filter_lines(lambda _line: (_ for _ in ()).throw(FinishEarly)),
]


@pytest.mark.parametrize("leaver", LEAVERS, ids=repr)
@pytest.mark.parametrize("main", [CAT, *LEAVERS[:3]], ids=repr)
def test_a_branch_that_has_had_enough_is_left_out(main: Any, leaver: Any) -> None:
    """The others get everything, and the run is a success."""
    result = run(command("seq", "100000") | tee(leaver, Pipeline(command("wc", "-l"), name="all")) | main)
    assert result.error is None
    assert int(result.output("all")) == 100_000
    assert main is not CAT or (result.stdout or b"").count(b"\n") == 100_000


def test_a_split_without_readers_ends_its_source() -> None:
    """All of them had enough, so the endless source is forgiven."""
    result = run(YES | tee(command("head", "-1"), UPPER | command("head", "-2")) | command("head", "-3"))
    assert result.error is None
    assert result.stdout == b"y\n" * 3
    assert [each for _, each in result.outputs] == [b"y\n", b"Y\n" * 2]


def test_until_main_ends_the_split_with_its_main_output(tmp_path: Path) -> None:
    """The branches see EOF."""
    path = tmp_path / "copy"
    result = run(
        YES | tee(path, Pipeline(command("wc", "-l"), name="lines"), until="main") | command("head", "-1")
    )
    assert result.error is None
    assert result.stdout == b"y\n"
    assert path.stat().st_size == 2 * int(result.output("lines")) > 0


def test_until_main_goes_on_without_a_branch() -> None:
    """Only the main output ends it."""
    result = run(command("seq", "100000") | tee(command("true"), until="main") | command("wc", "-l"))
    assert result.error is None
    assert result.stdout == b"100000\n"


def test_a_branch_that_failed_excuses_no_end_of_the_main_output() -> None:
    """`until="main"`: the failure is the verdict, and the others get everything."""
    result = run(command("seq", "100000") | tee(command("false"), until="main") | command("wc", "-l"))
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "false"
    assert result.stdout == b"100000\n"


@pytest.mark.parametrize(
    "failing",
    [
        command("sh", "-c", "exit 3", name="bad"),
        command("sh", "-c", "cat >/dev/null; exit 3", name="bad"),
        function(lambda *_: 1 / 0, name="bad"),
        function(lambda _c, stdin, _o: [stdin.read(), 1 / 0], name="bad"),
    ],
    ids=["at-once", "at-the-end", "function", "function-at-the-end"],
)
def test_a_branch_that_fails_is_left_out_and_named(failing: Any) -> None:
    """The others get everything."""
    result = run(
        command("seq", "100000")
        | tee(failing, Pipeline(command("wc", "-l"), name="all"))
        | command("wc", "-l")
    )
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "bad"
    assert int(result.output("all")) == int(result.stdout or b"") == 100_000


@pytest.mark.parametrize("through", [False, True])
def test_a_full_device_fails_the_run_and_the_others_get_everything(through: bool) -> None:  # noqa: FBT001
    """The message says where the bytes could not be written."""
    branch: Any = CAT.to("/dev/full") if through else "/dev/full"
    result = run(command("seq", "100000") | tee(branch) | command("wc", "-l"))
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == ("cat" if through else "tee")
    assert "No space left on device" in str(result.error)
    assert through or "/dev/full" in str(result.error)
    assert result.stdout == b"100000\n"


class _Refusing:
    def write(self, _data: bytes) -> int:
        raise ArithmeticError("refused")


def test_an_object_that_cannot_write_is_named() -> None:
    """Its branch is left out."""
    result = run(command("seq", "100000") | tee(_Refusing()) | command("wc", "-l"))
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, ArithmeticError)
    assert "_Refusing" in result.error.stage  # type: ignore[operator]
    assert result.stdout == b"100000\n"


def test_a_tee_may_be_first_and_last() -> None:
    """It reads the stdin of the run, and writes its stdout."""
    assert run(tee(CAT), input=TEXT).outputs == (("cat", TEXT),)
    assert run(tee(), input=TEXT).stdout == TEXT
    assert run(tee(CAT) | tee(UPPER), input=TEXT).outputs == (("cat", TEXT), ("upper", TEXT.upper()))


def test_a_branch_of_many_chunks_arrives_in_order() -> None:
    """Through functions that are slower than the main output."""

    def copied(chunks: Iterable[bytes]) -> Iterator[bytes]:
        yield from chunks

    data = b"".join(b"%d\n" % number for number in range(300_000))
    branches = [Pipeline(transform(copied), name=f"b{number}") for number in range(4)]
    result = run(command("cat") | tee(*branches), input=data)
    assert result.stdout == data
    assert all(found == data for _, found in result.outputs)


@pytest.mark.parametrize("source", [merge(CAT), concat(CAT) | CAT, shared(CAT)], ids=repr)
def test_a_source_is_not_a_branch(source: Pipeline) -> None:
    """It has no input that it could read."""
    with pytest.raises(ValueError, match="is a source, so it cannot be a branch"):
        tee(source)
