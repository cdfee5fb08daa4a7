"""Starting: which program is run, what it is given, and what is said where that fails."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Event,
    Pipeline,
    PipelineError,
    StartError,
    command,
    echo,
    function,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Script = Callable[..., Path]

SLEEP = command("sleep", "1000")
SAYS_HERE = "#!/bin/sh\necho here\n"


def _failure(pipeline: Pipeline, **options: Any) -> StartError:
    with pytest.raises(StartError) as raised:
        pipeline.run(**options)
    error = raised.value
    assert str(error) == f'starting stage "{error.stage}": {error.cause}'
    assert error.__cause__ is error.cause
    return error


# Each failure says which.


def test_a_program_that_is_missing_on_path() -> None:
    error = _failure(command("no-such-program-anywhere"))
    assert isinstance(error.cause, FileNotFoundError)
    assert "no such program" in str(error)
    assert "'no-such-program-anywhere'" in str(error)
    assert (error.stage, error.index) == ("no-such-program-anywhere", 0)


def test_a_path_that_is_missing(tmp_path: Path) -> None:
    error = _failure(command(tmp_path / "missing", name="mine"))
    assert isinstance(error.cause, FileNotFoundError)
    assert str(error).startswith('starting stage "mine": ')
    assert "no such program" in str(error)


def test_a_file_that_is_not_executable(script: Script) -> None:
    path = script("plain", SAYS_HERE, 0o644)
    error = _failure(command(path))
    assert isinstance(error.cause, PermissionError)
    assert "not executable" in str(error)


def test_a_folder_is_not_a_program(tmp_path: Path) -> None:
    error = _failure(command(tmp_path))
    assert isinstance(error.cause, PermissionError)
    assert "folder" in str(error)


def test_a_file_of_the_wrong_format_is_not_given_to_a_shell(script: Script, tmp_path: Path) -> None:
    error = _failure(command(script("odd", f"touch {tmp_path}/touched\n")))
    assert isinstance(error.cause, OSError)
    assert error.cause.errno == errno.ENOEXEC
    assert "format" in str(error)
    assert not (tmp_path / "touched").exists()


def test_a_script_whose_interpreter_is_missing(script: Script) -> None:
    error = _failure(command(script("orphan", "#!/no/such/interpreter -x\n")))
    assert isinstance(error.cause, FileNotFoundError)
    assert "'/no/such/interpreter'" in str(error)
    assert "interpreter" in str(error)


@pytest.mark.parametrize("whose", ["command", "pipeline"])
def test_a_working_directory_that_is_missing_is_not_taken_for_the_program(whose: str, tmp_path: Path) -> None:
    missing = tmp_path / "gone"
    pipeline = command("true", cwd=missing) if whose == "command" else Pipeline(command("true"), cwd=missing)
    error = _failure(pipeline)
    assert isinstance(error.cause, FileNotFoundError)
    assert "no such working directory" in str(error)
    assert str(missing) in str(error)


def test_a_working_directory_that_is_a_file(script: Script) -> None:
    path = script("file", "")
    error = _failure(command("true", cwd=path))
    assert isinstance(error.cause, NotADirectoryError)
    assert "working directory" in str(error)
    assert str(path) in str(error)


def test_arguments_that_are_too_long() -> None:
    error = _failure(command("true", "x" * (8 << 20)))
    assert isinstance(error.cause, OSError)
    assert error.cause.errno == errno.E2BIG


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_a_path_that_cannot_be_opened_names_the_endpoint(option: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {option: tmp_path / "missing" / "file"}
    error = _failure(echo("a") | command("cat"), **options)
    assert (error.stage, error.index) == (option, None)
    assert isinstance(error.cause, FileNotFoundError)


def test_start_raises_it_too() -> None:
    with pytest.raises(StartError):
        (SLEEP | command("/no/such/program")).start(stdin=PIPE, stdout=PIPE)


@pytest.mark.parametrize("method", ["output", "text", "iter_bytes", "iter_lines"])
def test_the_other_methods_raise_it_too(method: str) -> None:
    with pytest.raises(StartError):
        list(getattr(SLEEP | command("/no/such/program"), method)())


def test_with_check_off_it_is_returned() -> None:
    result = (echo("a", name="first") | command("/no/such/program", name="second")).run(check=False)
    assert isinstance(result.error, StartError)
    assert not result.ok
    assert result.error.result is result
    assert (result.error.index, result.error.stage) == (1, "second")
    assert [stage.name for stage in result.stages] == ["first", "second"]
    assert result.stages[1].error is result.error.cause


def test_a_start_failure_of_an_env_callable_is_that_stages() -> None:
    mine = KeyError("mine")

    def fail() -> str:
        raise mine

    error = _failure(SLEEP | command("true", env={"X": fail}))
    assert error.cause is mine
    assert error.index == 1


# Nothing of a failed start is left.


@pytest.mark.parametrize("place", range(4))
def test_earlier_stages_are_reaped_before_it_is_raised(place: int) -> None:
    events: list[Event] = []
    stages: list[Pipeline] = [SLEEP, function(lambda _c, i, _o: i.read(), name="fn"), SLEEP]
    stages.insert(place, command("/no/such/program", name="missing"))
    before = set(psutil.Process().children())
    error = _failure(Pipeline(*stages), on_event=events.append)
    assert not set(psutil.Process().children()) - before
    assert error.index == place
    assert error.result is not None
    codes = list(error.result.returncodes)
    earlier = [code for code in codes[:place] if code is not None]
    assert earlier == [-signal.SIGTERM] * len(earlier)
    assert all(stage.pid is None for stage in error.result.stages[place:])


def test_an_earlier_stage_that_ignores_sigterm_is_killed_and_reaped() -> None:
    ready, write_end = os.pipe()

    def wait_until_ready() -> str:
        return os.read(ready, 10).decode().strip()

    last = command("/no/such/program", env={"X": wait_until_ready})
    before = set(psutil.Process().children())
    try:
        # Its stderr is where it says that it is up.
        stubborn = command("sh", "-c", "trap '' TERM; echo r >&2; exec sleep 1000 2>&-", stderr=write_end)
        _failure(stubborn | last, grace=0.1)
    finally:
        os.close(ready)
        os.close(write_end)
    assert not set(psutil.Process().children()) - before


def test_no_function_has_begun_where_a_later_command_cannot_start() -> None:
    begun: list[bool] = []
    pipeline = function(lambda _c, _i, _o: begun.append(True)) | command("/no/such/program")
    for _ in range(20):
        _failure(pipeline)
    assert begun == []


# Which program it is.


def test_a_relative_path_belongs_to_the_callers_folder(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("bin/tool", "#!/bin/sh\npwd\n")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("bin/tool", "./bin/tool", "other/../bin/tool"):
        assert command(name, cwd=other).text() == f"{other.resolve()}\n"
        assert Pipeline(command(name), cwd="other").text() == f"{other.resolve()}\n"


def test_a_relative_path_is_not_looked_for_in_the_stages_folder(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("other/tool", SAYS_HERE)
    monkeypatch.chdir(tmp_path)
    error = _failure(command("./tool", cwd="other"))
    assert isinstance(error.cause, FileNotFoundError)


def test_a_bare_name_is_searched_on_the_childs_path(script: Script) -> None:
    folder = script("bin/some-tool", SAYS_HERE).parent
    assert command("some-tool", env={"PATH": str(folder)}).text() == "here\n"
    assert Pipeline(command("some-tool"), env={"PATH": lambda: str(folder)}).text() == "here\n"
    nested = Pipeline(command("some-tool"), env={"PATH": f"/no/such:{folder}"}, name="nested")
    assert (nested | command("cat")).text() == "here\n"


def test_a_bare_name_is_not_searched_on_the_callers_path(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = script("bin/some-tool", SAYS_HERE).parent
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    assert command("some-tool").text() == "here\n"
    _failure(command("some-tool", env={"PATH": "/usr/bin:/bin"}))


def test_where_path_is_unset_the_systems_default_is_searched(script: Script) -> None:
    folder = script("bin/some-tool", SAYS_HERE).parent
    assert command("true", env={"PATH": None}).run().ok
    assert folder.is_dir()
    _failure(command("some-tool", env={"PATH": None}))


@pytest.mark.parametrize("path", ["", ":", ".", "bin", "./bin", ":/no/such:", "/no/such::bin"])
def test_empty_and_relative_path_entries_are_skipped(
    path: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("some-tool", SAYS_HERE)
    script("bin/some-tool", SAYS_HERE)
    monkeypatch.chdir(tmp_path)
    error = _failure(command("some-tool", env={"PATH": path}))
    assert isinstance(error.cause, FileNotFoundError)


def test_a_file_on_path_that_cannot_be_executed_does_not_end_the_search(script: Script) -> None:
    first = script("one/some-tool", SAYS_HERE, 0o644).parent
    (first.parent / "dir" / "some-tool").mkdir(parents=True)
    last = script("two/some-tool", SAYS_HERE).parent
    path = f"{first}:{first.parent / 'dir'}:{last}"
    assert command("some-tool", env={"PATH": path}).text() == "here\n"


def test_the_child_is_told_the_name_that_the_caller_gave() -> None:
    text = command("sh", "-c", "tr '\\0' ' ' </proc/$$/cmdline").text()
    assert text.startswith("sh -c ")


# What the child is given.

_OPEN = "import os\nfor n in range(256):\n try: os.fstat(n); print(n)\n except OSError: pass"


@contextlib.contextmanager
def _inheritable() -> Iterator[list[int]]:
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        for _ in range(8):
            fds.extend(os.pipe())
        for fd in fds:
            stack.callback(os.close, fd)
            os.set_inheritable(fd, True)  # noqa: FBT003 - the standard library's signature
        yield fds


@pytest.mark.parametrize(
    "options",
    [{}, {"stderr": DEVNULL}, {"stderr": CAPTURE}, {"input": b"x"}, {"stdin": iter([b"x"])}],
    ids=["plain", "null", "capture", "input", "iterable"],
)
def test_children_see_no_descriptor_but_the_first_three(options: dict[str, Any]) -> None:
    probe = command(sys.executable, "-I", "-S", "-c", _OPEN)
    with _inheritable():
        assert (command("cat") | probe).text(**options).split() == ["0", "1", "2"]
        assert (probe | command("cat")).text(**options).split() == ["0", "1", "2"]


def test_none_of_three_keeps_an_end_of_the_others() -> None:
    program = f"import sys; sys.stdout = sys.stderr\n{_OPEN}\nos.read(0, 1)"
    probe = command(sys.executable, "-I", "-S", "-c", program)
    with _inheritable():
        result = (probe | probe | probe).run(stdout=DEVNULL)
    assert [stage.stderr.split() for stage in result.stages] == [[b"0", b"1", b"2"]] * 3


def _status(text: str) -> dict[str, int]:
    rows = (line.split(":") for line in text.splitlines())
    return {name: int(value, 16) for name, value in rows if name in {"SigBlk", "SigIgn", "SigCgt"}}


def test_children_begin_with_default_dispositions_and_nothing_blocked() -> None:
    changed = [signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM]
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in changed}
    blocked = {signal.SIGUSR2, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        # With a group of its own: in ours, a child ignores those signals of a terminal that we ignore.
        show = command("cat", "/proc/self/status", process_group=True)
        text = show.text()
        piped = (show | function(lambda _c, i, o: o.write(i.read()))).text()
        ours = _status(Path("/proc/thread-self/status").read_text())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for signum, handler in before.items():
            signal.signal(signum, handler)
    nothing = {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}
    assert _status(text) == nothing
    assert _status(piped) == nothing
    assert ours["SigIgn"]
    assert ours["SigBlk"]


def test_a_child_dies_of_sigpipe_as_in_a_shell() -> None:
    result = (command("yes") | command("true")).run(stdout=DEVNULL)
    assert result.returncodes == (-signal.SIGPIPE, 0)


def test_each_command_leads_a_group_of_its_own_in_the_callers_session() -> None:
    text = "echo $$ $(ps -o pgid= -p $$) $(ps -o sid= -p $$)"
    # At a terminal this is not the default: see tests/terminal/test_groups.py.
    pid, group, session = command("sh", "-c", text, process_group=True).text().split()
    assert group == pid
    assert session == str(os.getsid(0))


def test_an_exit_status_is_not_a_start_failure() -> None:
    with pytest.raises(PipelineError) as raised:
        command("sh", "-c", "exit 127").run()
    assert not isinstance(raised.value, StartError)
