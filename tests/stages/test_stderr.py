"""Where the stderr of commands goes, and what is kept of it."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    STDOUT,
    ExitError,
    Pipeline,
    PipelineError,
    closing,
    command,
)

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
SAYS = "echo out; echo err >&2"


def _writes(count: int) -> Pipeline:
    """Write `count` bytes of which each 8 tell their number."""
    program = f"import sys; sys.stderr.buffer.write(b''.join(b'%07d\\n' % n for n in range({count} // 8)))"
    return command(sys.executable, "-I", "-S", "-c", program)


# What is captured.


def test_stderr_is_captured_unless_told_otherwise() -> None:
    result = (sh("echo one >&2") | sh("echo two >&2")).run(stdout=DEVNULL)
    assert [stage.stderr for stage in result.stages] == [b"one\n", b"two\n"]


def test_up_to_64_kib_is_kept_whole() -> None:
    captured = _writes(64 * KIB).run(stdout=DEVNULL).stages[0].stderr
    assert captured == b"".join(b"%07d\n" % n for n in range(8 * KIB))


@pytest.mark.parametrize("count", [64 * KIB + 8, 200_000, 5_000_000])
def test_of_more_the_first_and_last_32_kib_are_kept_with_a_mark_between(count: int) -> None:
    captured = _writes(count).run(stdout=DEVNULL).stages[0].stderr
    whole = b"".join(b"%07d\n" % n for n in range(count // 8))
    mark = captured[32 * KIB : -32 * KIB]
    assert captured[: 32 * KIB] == whole[: 32 * KIB]
    assert captured[-32 * KIB :] == whole[-32 * KIB :]
    assert str(count - 64 * KIB).encode() in mark
    assert len(mark) < 100


def test_a_flood_of_stderr_does_not_stop_the_command() -> None:
    result = sh("head -c 100000000 /dev/zero >&2; echo done").start(stdout=CAPTURE).wait()
    assert result.stdout == b"done\n"
    assert len(result.stages[0].stderr) < 66 * KIB


def test_the_stderr_of_a_command_that_was_cancelled_is_kept() -> None:
    result = sh("echo before >&2; exec sleep 1000").run(timeout=0.3, check=False)
    assert result.stages[0].stderr == b"before\n"


# What an exception shows of it.


def test_the_last_lines_are_a_note_on_the_exception() -> None:
    with pytest.raises(PipelineError) as raised:
        sh("seq 1000 >&2; exit 3").run()
    error = raised.value
    assert str(error) == "sh: exit status 3: 1000"
    (note,) = error.__notes__
    assert note.endswith("998\n999\n1000")
    assert len(note.splitlines()) < 60
    assert isinstance(error.cause, ExitError)
    assert error.cause.stderr.endswith(b"\n1000\n")


def test_without_stderr_there_is_no_note() -> None:
    for stderr in (CAPTURE, DEVNULL, STDOUT):
        with pytest.raises(PipelineError) as raised:
            sh("exit 3").run(stdout=DEVNULL, stderr=stderr)
        assert not hasattr(raised.value, "__notes__")


def test_the_note_is_that_of_the_stage_which_is_reported() -> None:
    with pytest.raises(PipelineError) as raised:
        (sh("echo mine >&2; exit 3") | sh("cat; echo other >&2; exit 4")).run(stdout=DEVNULL)
    assert "mine" in raised.value.__notes__[0]
    assert "other" not in raised.value.__notes__[0]


def test_undecodable_bytes_do_not_spoil_the_note() -> None:
    with pytest.raises(PipelineError) as raised:
        sh(r"printf '\377\376 odd\n' >&2; exit 3").run()
    assert raised.value.__notes__[0].endswith(" odd")


# Where it may go, of one command or of all.


@pytest.fixture(params=["command", "pipeline"])
def run_with(request: pytest.FixtureRequest) -> Any:
    """Run a command that writes to both, with stderr as its own option or as the pipeline's."""

    def run_with(stderr: Any, text: str = SAYS) -> Any:
        if request.param == "command":
            return sh(text, stderr=stderr).start(stdout=CAPTURE).wait()
        return sh(text).start(stdout=CAPTURE, stderr=stderr).wait()

    return run_with


def test_inherit(run_with: Any, capfd: pytest.CaptureFixture[str]) -> None:
    result = run_with(INHERIT)
    assert capfd.readouterr().err == "err\n"
    assert (result.stdout, result.stages[0].stderr) == (b"out\n", b"")


def test_devnull(run_with: Any, capfd: pytest.CaptureFixture[str]) -> None:
    result = run_with(DEVNULL)
    assert capfd.readouterr().err == ""
    assert (result.stdout, result.stages[0].stderr) == (b"out\n", b"")


def test_stdout(run_with: Any) -> None:
    result = run_with(STDOUT)
    assert (result.stdout, result.stages[0].stderr) == (b"out\nerr\n", b"")


def test_stderr_to_stdout_goes_to_the_commands_own_stdout() -> None:
    assert (sh(SAYS, stderr=STDOUT) | command("sed", "s/^/> /")).text() == "> out\n> err\n"


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "PathLike"])
def test_a_path(run_with: Any, kind: Any, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old and longer than what comes\n")
    run_with(kind(tmp_path / "log"))
    assert (tmp_path / "log").read_bytes() == b"err\n"


def test_a_path_of_the_pipeline_gets_the_stderr_of_all(tmp_path: Path) -> None:
    pipeline = sh("echo one >&2") | sh("cat; echo two >&2") | sh("cat; echo three >&2")
    pipeline.run(stderr=tmp_path / "log", stdout=DEVNULL)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_a_descriptor_stays_open(run_with: Any) -> None:
    read_end, write_end = os.pipe()
    try:
        run_with(write_end)
        os.write(write_end, b"mine\n")
        assert os.read(read_end, 100) == b"err\nmine\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_file_object_stays_open_and_keeps_the_order(run_with: Any, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before\n")
        run_with(log)
        log.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nerr\nafter\n"


def test_an_object_with_write(run_with: Any) -> None:
    log = io.BytesIO()
    run_with(log)
    assert log.getvalue() == b"err\n"


def test_a_text_object(run_with: Any) -> None:
    log = io.StringIO()
    run_with(log, r"printf 'gr\303\274n\n' >&2")
    assert log.getvalue() == "grün\n"


def test_an_object_in_closing_is_closed(run_with: Any, tmp_path: Path) -> None:
    log = (tmp_path / "log").open("wb")
    run_with(closing(log))
    assert log.closed
    assert (tmp_path / "log").read_bytes() == b"err\n"


def test_a_callable_gets_each_line(run_with: Any) -> None:
    lines: list[bytes] = []
    run_with(lines.append, r"printf 'a\nb\r\n\nlast' >&2")
    assert lines == [b"a", b"b\r", b"", b"last"]


def test_a_callable_gets_every_line_of_all_commands_in_order() -> None:
    lines: list[bytes] = []
    count = 5000
    pipeline = sh(f"seq 1 {count} >&2") | sh(f"cat; seq -f 'x%.0f' 1 {count} >&2")
    pipeline.run(stderr=lines.append, stdout=DEVNULL)
    assert [line for line in lines if not line.startswith(b"x")] == [b"%d" % n for n in range(1, count + 1)]
    assert [line for line in lines if line.startswith(b"x")] == [b"x%d" % n for n in range(1, count + 1)]


def test_a_callable_gets_a_line_while_the_command_goes_on() -> None:
    got = threading.Event()
    run = sh("echo early >&2; exec sleep 1000").start(stderr=lambda _line: got.set())
    assert got.wait(DEADLINE)
    assert not run.done()
    run.cancel()
    run.wait(check=False)


@pytest.mark.parametrize("size", [3_000_000, 16 * KIB * KIB, 16 * KIB * KIB + 5])
@pytest.mark.parametrize("ending", ["", "\\n"])
def test_a_callable_gets_a_long_line_in_one_piece(size: int, ending: str) -> None:
    """Up to 16 MiB; what is longer is cut there, and says so, and is still one line."""
    program = f"import sys; sys.stderr.write('a\\n' + 'x' * {size} + '{ending}')"
    lines: list[bytes] = []
    command(sys.executable, "-I", "-S", "-c", program).run(stderr=lines.append)
    kept = min(size, 16 * KIB * KIB)
    mark = b"... 5 bytes omitted ..." if kept < size else b""
    assert [len(line) for line in lines] == [1, kept + len(mark)]
    assert lines[1] == b"x" * kept + mark


def test_a_callable_that_raises_does_not_break_the_run() -> None:
    lines: list[bytes] = []
    events: list[Any] = []

    def note(line: bytes) -> None:
        lines.append(line)
        raise KeyError(line)

    assert sh("echo a >&2; echo b >&2").run(stderr=note, on_event=events.append).ok
    assert lines == [b"a", b"b"]
    assert [event.kind for event in events].count("failed") == 2


def test_a_commands_own_option_goes_before_the_pipelines(tmp_path: Path) -> None:
    lines: list[bytes] = []
    pipeline = sh("echo one >&2", stderr=tmp_path / "log") | sh("echo two >&2")
    pipeline.run(stderr=lines.append, stdout=DEVNULL)
    assert (tmp_path / "log").read_bytes() == b"one\n"
    assert lines == [b"two"]


def test_a_nested_pipelines_option_goes_before_its_parents() -> None:
    inner: list[bytes] = []
    outer: list[bytes] = []
    nested = Pipeline(sh("echo one >&2"), stderr=inner.append)
    (nested | sh("echo two >&2")).run(stderr=outer.append, stdout=DEVNULL)
    assert (inner, outer) == ([b"one"], [b"two"])


def test_a_nested_pipeline_follows_its_parent_else() -> None:
    lines: list[bytes] = []
    nested = Pipeline(sh("echo one >&2"), name="nested")
    (nested | command("cat")).run(stderr=lines.append, stdout=DEVNULL)
    assert lines == [b"one"]
