"""The logger `penstock`, and `penstock.logging.verbose`."""

from __future__ import annotations

import contextvars
import io
import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh
from tests.support.waiting import DEADLINE, until

from penstock import DEVNULL, PipelineError, Secret, StartError, command, echo, function, map_lines
from penstock.logging import verbose

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hosts import Host

SLEEP = command("sleep", "1000")


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The records, with the logger enabled for DEBUG."""
    caplog.set_level(logging.DEBUG, "penstock")
    return caplog


# Records.


def test_starts_and_ends_are_logged_for_debugging(debug: pytest.LogCaptureFixture) -> None:
    sh("exit 3").run(check=False)
    assert {(record.name, record.levelname) for record in debug.records} == {("penstock", "DEBUG")}
    first, start, failed, last = [record.getMessage() for record in debug.records]
    assert re.fullmatch(r"run \d+: started: sh", first)
    assert re.fullmatch(r"sh: started \(pid \d+\): sh -c 'exit 3'", start)
    assert re.fullmatch(r"sh: ended: exit status 3 \(\d+\.\d{3} s\): sh -c 'exit 3'", failed)
    assert re.fullmatch(r"run \d+: ended: sh: exit status 3 \(\d+\.\d{3} s\)", last)


def test_records_have_the_facts_as_fields(debug: pytest.LogCaptureFixture) -> None:
    result = sh("exit 3").run(check=False)
    failed: Any = debug.records[2]
    assert (failed.penstock_event, failed.penstock_stage, failed.penstock_stage_id) == ("failed", "sh", "0")
    assert failed.penstock_argv == ["sh", "-c", "exit 3"]
    assert (failed.penstock_pid, failed.penstock_returncode) == (result.stages[0].pid, 3)
    assert failed.penstock_error == "exit status 3"
    assert 0 < failed.penstock_elapsed <= result.elapsed
    assert len({record.penstock_run_id for record in debug.records}) == 1  # type: ignore[attr-defined]


def test_secrets_and_control_characters_are_not_logged_as_they_are(debug: pytest.LogCaptureFixture) -> None:
    command("true", Secret("hunter2"), "a\x1b[31m\nb").run()
    assert "hunter2" not in debug.text
    assert "\x1b" not in debug.text
    start = debug.records[1].getMessage()
    assert start.endswith(r"true '***' $'a\x1b[31m\nb'")


def test_python_stages_are_logged_too(debug: pytest.LogCaptureFixture) -> None:
    (echo("a") | map_lines(bytes.upper, name="upper")).run(stdout=DEVNULL)
    assert "upper: started" in [record.getMessage() for record in debug.records]


def test_records_come_in_the_context_of_the_caller(debug: pytest.LogCaptureFixture) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(request.get())
            return True

    context = contextvars.copy_context()
    context.run(request.set, "mine")
    added = Filter()
    debug.handler.addFilter(added)
    context.run(command("true").run)
    debug.handler.removeFilter(added)
    assert seen == ["mine"] * 4


def test_nothing_is_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    command("true").run()
    sh("exit 3").run(check=False)
    assert caplog.records == []


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
def test_a_function_that_is_abandoned_is_a_warning(
    level: int, caplog: pytest.LogCaptureFixture, stubborn: Callable[..., Any]
) -> None:
    caplog.set_level(level, "penstock")
    entered = threading.Event()

    def fn(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        entered.set()
        stubborn()

    run = function(fn, name="fn").start(grace=0.05)
    assert entered.wait(DEADLINE)
    run.cancel()
    run.wait(check=False)
    until(lambda: [record for record in caplog.records if record.levelname == "WARNING"])
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == "fn: did not end within 0.05 s of being cancelled"
    assert record.penstock_event == "abandoned"  # type: ignore[attr-defined]


def test_processes_that_are_left_behind_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    sh("sleep 1000 >/dev/null 2>&1 & exit 0", name="sh").run(on_leftover="kill", grace=1)
    until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.levelname, record.penstock_event) == ("WARNING", "leftover")  # type: ignore[attr-defined]
    assert record.getMessage().startswith("sh: left processes behind: ")


def test_a_program_without_a_configuration_finds_nothing_on_its_stderr(host: Host) -> None:
    out = host.output(
        """
        import io, logging
        from penstock import function
        sys.stderr = io.StringIO()
        forever = threading.Event()
        function(lambda *_: forever.wait()).run(timeout=0.05, grace=0.05, check=False)
        say(repr(sys.stderr.getvalue()))
        forever.set()
        """
    )
    assert out == "''\n"


def test_a_program_that_configures_logging_later_is_heard(host: Host) -> None:
    out = host.output(
        """
        command("true").run()
        import logging
        command("true").run()
        logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="%(levelname)s %(penstock_event)s")
        command("true").run()
        """
    )
    assert out.split("\n")[:-1] == [f"DEBUG {kind}" for kind in ("run-start", "start", "exit", "run-end")]


# verbose().


def _lines(text: str) -> list[str]:
    """Return the lines without times and durations."""
    return re.sub(r"^\[[0-9:.]{12}\]|(?<=(?:in|er) )[0-9.]+", "~", text, flags=re.MULTILINE).splitlines()


def test_commands_are_printed_as_they_start_and_end() -> None:
    with verbose(file := io.StringIO()):
        command("echo", "a b").run(stdout=DEVNULL)
        sh("exit 3").run(check=False)
    command("true").run()
    assert _lines(file.getvalue()) == [
        "~ [1] $ echo 'a b'",
        "~ [1] ✔ (done in ~ s)",
        "~ [2] $ sh -c 'exit 3'",
        "~ [2] ✖ (exit status 3, after ~ s)",
    ]


def test_failed_starts_and_cancellations_are_printed() -> None:
    with verbose(file := io.StringIO()):
        with pytest.raises(StartError):
            command("/no/such/program").run()
        with pytest.raises(PipelineError):
            SLEEP.run(timeout=0.5)
    lines = _lines(file.getvalue())
    assert lines[0] == "~ [1] $ /no/such/program"
    assert lines[1].startswith("~ [1] ✖ (could not be started: [Errno 2] ")
    assert lines[2:] == ["~ [2] $ sleep 1000", "~ [2] ✖ (cancelled: timed out after ~ s, after ~ s)"]


def test_it_needs_no_import_beside_that_of_the_package(host: Host) -> None:
    out = host.output("import penstock; penstock.logging.verbose(sys.stdout); command('true').run()")
    assert _lines(out) == ["~ [1] $ true", "~ [1] ✔ (done in ~ s)"]


def test_it_is_ended_by_a_call_too() -> None:
    stop = verbose(file := io.StringIO())
    command("true").run()
    stop()
    stop()
    command("true").run()
    assert len(_lines(file.getvalue())) == 2


def test_python_stages_are_not_printed_and_secrets_are_masked() -> None:
    with verbose(file := io.StringIO()):
        (echo("a") | command("cat", "-", Secret("/dev/null"))).run(stdout=DEVNULL)
    assert _lines(file.getvalue())[0] == "~ [1] $ cat - '***'"
    assert len(_lines(file.getvalue())) == 2


def test_lines_of_several_threads_are_whole() -> None:
    with verbose(file := io.StringIO()):
        threads = [threading.Thread(target=(echo("a") | command("cat")).run, kwargs={"stdout": DEVNULL})
                   for _ in range(10)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = sorted(_lines(file.getvalue()))
    expected = [f"~ [{n}] {text}" for n in range(1, 11) for text in ("$ cat", "✔ (done in ~ s)")]
    assert lines == sorted(expected)


def test_stderr_is_found_at_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    with verbose():
        command("true").run()
    assert "$ true" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colors_are_for_terminals_that_want_them(
    environ: dict[str, str],
    colored: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with verbose(file := _Terminal()):
        command("true").run()
    assert ("\x1b[" in file.getvalue()) is colored


def test_a_stream_without_the_marks_gets_words() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with verbose(file):
        command("true").run()
    file.seek(0)
    assert "[1] ok (done in" in file.read()


def test_a_program_may_have_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    with verbose():
        monkeypatch.setattr(sys, "stderr", None)
        assert command("true").run().ok
        monkeypatch.undo()


def test_verbose_refuses_a_path_at_once() -> None:
    """Each event would be an error in the log otherwise."""
    with pytest.raises(TypeError, match=r"file must be a text file that is open, or None, not 'log\.txt'"):
        verbose("log.txt")  # type: ignore[arg-type]
