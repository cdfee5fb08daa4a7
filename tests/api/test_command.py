"""`command`: what it takes, what reaches the child, and what it refuses when the stage is made."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import io
import os
import pickle
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    STDOUT,
    Event,
    ExitError,
    Pipeline,
    PipelineError,
    Secret,
    StartError,
    closing,
    command,
    filter_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "hunter2"


class BytesPath:
    """A PathLike of bytes, as `os.DirEntry` of a bytes folder is one."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return self.path


class EmptyPath:
    def __fspath__(self) -> str:
        return ""


def arguments(*args: Any) -> list[bytes]:
    """Return the arguments as a child sees them."""
    program = "import os, sys; [os.write(1, os.fsencode(a) + b'\\0') for a in sys.argv[1:]]"
    return command(sys.executable, "-c", program, *args).output().split(b"\0")[:-1]


def variable(stage_env: dict[str, Any] | None, name: str, **options: Any) -> bytes:
    """Return what a child finds in its environment; `unset` where there is nothing."""
    stage = command("/bin/sh", "-c", f'printf %s "${{{name}-unset}}"', env=stage_env)
    return stage.output(**options)


# Arguments.


def test_arguments_of_every_kind_reach_the_child_unchanged() -> None:
    """Str, bytes, paths and secrets, whatever bytes they are made of; empty ones stay arguments."""
    given = [
        "a b",
        "",
        "größe",
        b"\xff\xfe",
        b"",
        Path("x/y"),
        BytesPath(b"p\xff"),
        Secret("s"),
        "-n",
        "*",
        "\n",
    ]
    assert arguments(*given) == [
        b"a b",
        b"",
        "größe".encode(),
        b"\xff\xfe",
        b"",
        b"x/y",
        b"p\xff",
        b"s",
        b"-n",
        b"*",
        b"\n",
    ]


def test_a_str_that_python_decoded_with_surrogates_is_encoded_back() -> None:
    """As a name that `os.listdir` returned is."""
    assert arguments("caf\udce9") == [b"caf\xe9"]


@pytest.mark.parametrize(
    "program",
    ["true", b"true", Path("/bin/true"), BytesPath(b"/bin/true"), pytest.param(Secret("true"), id="secret")],
)
def test_the_program_is_of_any_of_these_kinds_too(program: Any) -> None:
    """As the arguments are."""
    assert command(program).run().ok


@pytest.mark.parametrize(
    "wrong", [None, 5, 0, True, 1.5, ["true"], ("true",), bytearray(b"x"), object(), str]
)
def test_anything_else_is_a_type_error_when_the_stage_is_made(wrong: Any) -> None:
    """For the program and for an argument; a list for `subprocess` is the usual mistake."""
    with pytest.raises(TypeError, match="program"):
        command(wrong)
    with pytest.raises(TypeError, match="argument"):
        command("true", wrong)


@pytest.mark.parametrize(
    "empty", ["", b"", EmptyPath(), BytesPath(b""), pytest.param(Secret(""), id="secret")]
)
def test_an_empty_program_is_a_value_error_when_the_stage_is_made(empty: Any) -> None:
    """Whatever kind it is of."""
    with pytest.raises(ValueError, match="empty"):
        command(empty)


@pytest.mark.parametrize(
    "wrong", ["a\0b", b"a\0b", "\0", BytesPath(b"\0"), pytest.param(Secret("hunter2\0"), id="secret")]
)
def test_a_nul_byte_is_a_value_error_when_the_stage_is_made(wrong: Any) -> None:
    """No kernel takes it; and the message shows no secret."""
    with pytest.raises(ValueError, match="NUL") as caught:
        command(wrong)
    assert HIDDEN not in str(caught.value)
    with pytest.raises(ValueError, match="NUL") as caught:
        command("true", wrong)
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("wrong", ["hunter2\ud800", pytest.param(Secret("hunter2\ud800"), id="secret")])
def test_text_that_cannot_be_encoded_is_a_value_error_at_once(wrong: Any) -> None:
    """As in the environment; the error holds no secret."""
    with pytest.raises(ValueError, match=r"argument|encode") as caught:
        command("true", wrong)
    if isinstance(wrong, Secret):
        assert HIDDEN not in repr(caught.value)


def test_a_program_is_needed() -> None:
    """`command()` is a mistake of the call."""
    with pytest.raises(TypeError):
        command()  # type: ignore[call-arg]


def test_an_unknown_option_is_a_type_error() -> None:
    """There is no shell to switch on."""
    with pytest.raises(TypeError, match="shell"):
        command("true", shell=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", 5),
        ("name", ""),
        ("name", b"x"),
        ("cwd", 5),
        ("cwd", ""),
        ("cwd", "a\0b"),
        ("env", "A=1"),
        ("env", {"A": 1}),
        ("env", {"A": b"1"}),
        ("env", {b"A": "1"}),
        ("env", {"A=": "1"}),
        ("env", [("A", "1")]),
        ("stderr", PIPE),
        ("stderr", 1.5),
        ("stderr", True),
        ("stderr", -42),
        ("stderr", ""),
        ("ok_codes", 0),
        ("ok_codes", "0"),
        ("ok_codes", None),
        ("ok_codes", ("0",)),
        ("ok_codes", (True,)),
        ("ok_codes", (0.0,)),
        ("process_group", 1),
        ("process_group", "own"),
        ("process_group", 0),
    ],
)
def test_a_mistake_in_an_option_names_it_when_the_stage_is_made(option: str, value: Any) -> None:
    """TypeError or ValueError, as for a pipeline's options."""
    with pytest.raises((TypeError, ValueError), match=option):
        command("true", **{option: value})


# Secrets.


def shown(error: BaseException) -> str:
    """Return everything that a traceback, a log or a debugger would print of an error."""
    texts = traceback.format_exception(error)
    link: BaseException | None = error
    while link is not None:
        texts += [
            repr(link),
            str(link),
            repr(link.args),
            repr(getattr(link, "filename", "")),
            repr(vars(link)),
        ]
        link = link.__cause__
    return "\n".join(texts)


def test_a_secret_reaches_the_child_and_is_shown_nowhere() -> None:
    """Not in a repr, a plan, a result, an error, or an event."""
    events: list[Event] = []
    stage = command(
        "sh",
        "-c",
        'test "$1" = "$TOKEN" && test ${#1} = 7 && exit 3',
        "sh",
        Secret(HIDDEN),
        env={"TOKEN": Secret(HIDDEN)},
    )
    pipeline = Pipeline(stage, env={"OTHER": Secret(HIDDEN)}, on_event=events.append)
    result = pipeline.run(check=False)
    assert result.returncodes == (3,)
    assert result.error is not None
    texts = [repr(stage), repr(pipeline), str(pipeline.explain()), repr(pipeline.explain())]
    texts += [str(result), repr(result), shown(result.error), repr(events), str([vars_of(e) for e in events])]
    assert not [text for text in texts if HIDDEN in text]
    assert "***" in repr(stage)
    assert isinstance(result.error.cause, ExitError)
    assert "***" in result.error.cause.cmd
    assert events


def vars_of(event: Event) -> tuple[object, ...]:
    """Return the fields of an event."""
    return event.kind, event.stage, event.message, event.error, dict(event.context)


def test_a_secret_program_that_is_missing_is_not_shown_either() -> None:
    """In the error that says so least of all."""
    for program in (Secret("hunter2-is-no-program"), Secret("/nowhere/hunter2")):
        result = command(program).run(check=False)
        assert isinstance(result.error, StartError)
        assert HIDDEN not in shown(result.error)
        assert HIDDEN not in str(result) + repr(result)


def test_a_secret_in_a_pickled_pipeline_still_works_and_is_still_hidden() -> None:
    """A cluster's worker needs the value; who prints the pipeline there does not."""
    stage = command("printf", "%s", Secret(HIDDEN), env={"A": Secret("b")})
    copy = pickle.loads(pickle.dumps(stage))
    assert copy.output() == HIDDEN.encode()
    assert HIDDEN not in repr(copy)


def test_a_pickled_error_and_result_hold_no_secret() -> None:
    """They travel to logs."""
    result = command("sh", "-c", "exit 1", Secret(HIDDEN), env={"A": Secret(HIDDEN)}).run(check=False)
    assert HIDDEN.encode() not in pickle.dumps(result.error)
    assert HIDDEN.encode() not in pickle.dumps(result)


def test_a_secret_program_gives_the_stage_no_telling_name() -> None:
    """The name is *** too, unless one is given."""
    assert command(Secret("true")).name == "***"
    assert command(Secret("true"), name="login").name == "login"


# Exit statuses.


@pytest.mark.parametrize(
    ("code", "ok_codes"),
    [(0, (0,)), (1, (0, 1)), (3, [3]), (3, {3}), (255, range(256)), (7, iter((7,))), (0, (0, -15))],
)
def test_a_status_among_ok_codes_is_a_success(code: int, ok_codes: Iterable[int]) -> None:
    """Any iterable of ints; the status is still told. The stage can be run again."""
    stage = command("sh", "-c", f"exit {code}", ok_codes=ok_codes)
    for _ in range(2):
        result = stage.run()
        assert result.returncodes == (code,)
        assert result.stages[0].error is None


@pytest.mark.parametrize(("code", "ok_codes"), [(1, (0,)), (0, (1,)), (0, ()), (2, (0, 1))])
def test_a_status_that_is_not_among_them_is_an_exit_error(code: int, ok_codes: tuple[int, ...]) -> None:
    """Zero too, where it was not said to be right."""
    with pytest.raises(PipelineError) as caught:
        command("sh", "-c", f"exit {code}", ok_codes=ok_codes).run()
    cause = caught.value.cause
    assert isinstance(cause, ExitError)
    assert (cause.returncode, cause.signal) == (code, None)
    assert str(cause) == f"exit status {code}"


def test_a_death_by_signal_is_an_exit_error_with_the_signal() -> None:
    """The return code is negative, as in subprocess."""
    result = command("sh", "-c", "kill -KILL $$").run(check=False)
    stage = result.stages[0]
    assert (stage.returncode, stage.signal) == (-signal.SIGKILL, signal.SIGKILL)
    assert str(stage.error) == "signal: killed"


# Names and reprs.


def test_the_name_is_the_program_unless_another_is_given() -> None:
    """As it was written, not as it was found."""
    assert command("true").name == "true"
    assert command("/bin/true").name == "/bin/true"
    assert command(b"true").name == "true"
    assert command(Path("/bin/true")).name == "/bin/true"
    assert command("true", name="the truth").name == "the truth"
    assert command("true", name="the truth").run().stages[0].name == "the truth"


def test_the_repr_is_the_call() -> None:
    """With its arguments."""
    assert repr(command("printf", "%s", b"x")) == "command('printf', '%s', b'x')"


# Working directory.


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_cwd_is_where_the_child_runs(tmp_path: Path, kind: Any) -> None:
    """Str, bytes or PathLike."""
    assert command("pwd", "-P", cwd=kind(str(tmp_path))).output() == os.fsencode(tmp_path.resolve()) + b"\n"


def test_the_commands_cwd_goes_before_the_pipelines(tmp_path: Path) -> None:
    """Which holds for those that have none."""
    (tmp_path / "own").mkdir()
    (tmp_path / "all").mkdir()
    own = command("sh", "-c", "cat; basename $PWD", cwd=tmp_path / "own")
    none = command("sh", "-c", "basename $PWD")
    assert Pipeline(none, own, cwd=tmp_path / "all").output() == b"all\nown\n"
    assert (none | own).output(cwd=tmp_path / "all") == b"all\nown\n"


def test_a_cwd_that_is_missing_or_no_folder_is_told_from_a_missing_program(tmp_path: Path) -> None:
    """The message says which."""
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="working directory") as caught:
        command("true", cwd=tmp_path / "missing").run()
    assert isinstance(caught.value.cause, FileNotFoundError)
    assert "missing" in str(caught.value)
    with pytest.raises(StartError, match="director") as caught:
        command("true", cwd=tmp_path / "file").run()
    assert isinstance(caught.value.cause, NotADirectoryError)


def test_a_program_with_a_slash_is_resolved_against_the_callers_cwd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the stage's own is."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        script = tmp_path / folder / "tool"
        script.write_text(f"#!/bin/sh\necho {folder} $(basename $PWD)\n")
        script.chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    assert command("./tool", cwd=tmp_path / "there").output() == b"here there\n"
    assert command("../there/tool").output() == b"there here\n"


# Environment.


def test_env_adds_replaces_and_unsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the inherited environment; an empty value is a value."""
    monkeypatch.setenv("PENSTOCK_TEST", "inherited")
    assert variable(None, "PENSTOCK_TEST") == b"inherited"
    assert variable({}, "PENSTOCK_TEST") == b"inherited"
    assert variable({"PENSTOCK_TEST": "own"}, "PENSTOCK_TEST") == b"own"
    assert variable({"PENSTOCK_TEST": ""}, "PENSTOCK_TEST") == b""
    assert variable({"PENSTOCK_TEST": None}, "PENSTOCK_TEST") == b"unset"
    assert variable({"PENSTOCK_NOT_THERE": None}, "PENSTOCK_TEST") == b"inherited"


def test_a_change_of_this_process_environment_is_seen_by_the_next_run() -> None:
    """However it is changed, and although what was read for the last run is kept."""
    with pytest.MonkeyPatch.context() as patch:
        for value in ("one", "two", "dr\udce9i"):
            patch.setenv("PENSTOCK_CHANGED", value)
            assert variable(None, "PENSTOCK_CHANGED") == os.fsencode(value)
        patch.delenv("PENSTOCK_CHANGED")
        assert variable(None, "PENSTOCK_CHANGED") == b"unset"
        os.environb[b"PENSTOCK_CHANGED"] = b"bytes"
        assert variable(None, "PENSTOCK_CHANGED") == b"bytes"
    assert variable(None, "PENSTOCK_CHANGED") == b"unset"


def test_the_commands_env_lies_over_the_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the pipeline's over the inherited."""
    monkeypatch.setenv("PENSTOCK_TEST", "inherited")
    layer = {"PENSTOCK_TEST": "pipeline"}
    assert variable(None, "PENSTOCK_TEST", env=layer) == b"pipeline"
    assert variable({"PENSTOCK_TEST": "own"}, "PENSTOCK_TEST", env=layer) == b"own"
    assert variable({"PENSTOCK_TEST": None}, "PENSTOCK_TEST", env=layer) == b"unset"
    assert variable({"PENSTOCK_TEST": "own"}, "PENSTOCK_TEST", env={"PENSTOCK_TEST": None}) == b"own"


def test_without_inheritance_there_is_only_what_was_given() -> None:
    """A bare environment is possible."""
    assert command("/usr/bin/env").output(inherit_env=False) == b""
    assert command("/usr/bin/env", env={"A": "1"}).output(inherit_env=False, env={"B": "2"}) == b"B=2\nA=1\n"


def test_callables_are_called_at_each_start_in_the_starters_context() -> None:
    """Not when the stage is made; None unsets."""
    current = contextvars.ContextVar("current", default="nobody")
    calls: list[str] = []

    def whose() -> str:
        calls.append(current.get())
        return current.get()

    stage = command(
        "sh", "-c", 'printf %s "$WHOSE ${GONE-unset}"', env={"WHOSE": whose, "GONE": lambda: None}
    )
    assert calls == []
    current.set("first")
    assert stage.output(env={"GONE": "there"}) == b"first unset"
    current.set("second")
    assert stage.output() == b"second unset"
    assert calls == ["first", "second"]


def test_an_env_callable_that_raises_fails_the_start_with_its_own_error() -> None:
    """And names the variable in a note."""
    error = LookupError("no token")

    def fail() -> str:
        raise error

    for pipeline in (command("true", env={"TOKEN": fail}), Pipeline(command("true"), env={"TOKEN": fail})):
        with pytest.raises(StartError) as caught:
            pipeline.run()
        assert caught.value.cause is error
        assert "TOKEN" in "".join(error.__notes__)


@pytest.mark.parametrize("value", [5, b"x", "a\0b", ["x"]])
def test_an_env_callable_with_an_invalid_value_names_the_variable(value: Any) -> None:
    """As where the value had been given itself."""
    result = command("true", env={"TOKEN": lambda: value}).run(check=False)
    assert isinstance(result.error, StartError)
    assert isinstance(result.error.cause, TypeError | ValueError)
    assert "TOKEN" in str(result.error)


def test_a_mapping_that_is_changed_later_changes_no_stage() -> None:
    """The stage is a value."""
    layer = {"PENSTOCK_TEST": "then"}
    stage = command("sh", "-c", "printf $PENSTOCK_TEST", env=layer)
    layer["PENSTOCK_TEST"] = "now"
    assert stage.output() == b"then"


def test_a_bare_name_is_searched_on_the_childs_path(tmp_path: Path) -> None:
    """Not the caller's; empty and relative entries are skipped."""
    script = tmp_path / "penstock-tool"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    assert command("penstock-tool", env={"PATH": str(tmp_path)}).output() == b"found\n"
    assert command("penstock-tool").output(env={"PATH": str(tmp_path)}) == b"found\n"
    with pytest.raises(StartError, match="penstock-tool"):
        command("penstock-tool").run()


def test_empty_and_relative_path_entries_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise whoever may write to a folder may run programs there."""
    script = tmp_path / "penstock-tool"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in ("", ".", ":/bin", "./:/bin", "/bin:"):
        with pytest.raises(StartError, match="no such program"):
            command("penstock-tool", env={"PATH": path}).run()


# Start failures.


def test_each_way_in_which_a_program_cannot_be_started_says_what_it_is(tmp_path: Path) -> None:
    """Missing, not executable, a folder, no known format, a script whose interpreter is missing."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "garbage").write_bytes(b"\x01\x02\x03\x04")
    (tmp_path / "garbage").chmod(0o755)
    (tmp_path / "script").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    cases: list[tuple[str, type[OSError], str]] = [
        ("penstock-no-such-program", FileNotFoundError, "penstock-no-such-program"),
        (str(tmp_path / "missing"), FileNotFoundError, "missing"),
        (str(tmp_path / "plain"), PermissionError, "plain"),
        (str(tmp_path), PermissionError, ""),
        (str(tmp_path / "garbage"), OSError, "format"),
        (str(tmp_path / "script"), FileNotFoundError, "/nowhere/interpreter"),
    ]
    for program, kind, text in cases:
        with pytest.raises(StartError) as caught:
            command(program).run()
        assert isinstance(caught.value.cause, kind), program
        assert text in str(caught.value.cause)
        assert str(caught.value) == f'starting stage "{program}": {caught.value.cause}'
        assert caught.value.index == 0
        assert caught.value.__cause__ is caught.value.cause


def test_arguments_that_are_too_long_are_an_error_of_the_start() -> None:
    """The kernel's limit, 128 KiB for one argument, is not known before."""
    with pytest.raises(StartError) as caught:
        command("true", "x" * (1 << 22)).run()
    assert isinstance(caught.value.cause, OSError)
    assert caught.value.cause.errno == errno.E2BIG


# What a child finds.


def test_a_child_leads_a_process_group_or_shares_the_callers() -> None:
    """The fifth field of stat is the group. The default is tested on terminals, in tests/terminal."""
    own = command("cat", "/proc/self/stat", process_group=True).output().split()
    assert own[4] == own[0]
    shared = command("cat", "/proc/self/stat", process_group=False).output().split()
    assert int(shared[4]) == os.getpgrp()


def test_a_child_sees_no_descriptor_but_its_three(tmp_path: Path) -> None:
    """Not even one that the caller made inheritable; the fourth is the one that lists them."""
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003
        assert command("ls", "/proc/self/fd").output(input=b"").split() == [b"0", b"1", b"2", b"3"]


def test_a_child_has_default_signal_dispositions() -> None:
    """Python ignores SIGPIPE and SIGXFSZ; a child of it does not."""
    status = command("cat", "/proc/self/status").output()
    masks = {
        line.split(b":")[0]: int(line.split()[1], 16)
        for line in status.splitlines()
        if line[:3] in (b"Sig", b"Shd") and b"Q" not in line
    }
    assert masks[b"SigIgn"] == 0
    assert masks[b"SigBlk"] == 0


# A command's own stderr.

NOISE = ("sh", "-c", "echo out; echo err >&2")


def test_stderr_is_captured_by_default() -> None:
    """Also of a success."""
    assert command(*NOISE).run(stdout=DEVNULL).stages[0].stderr == b"err\n"
    assert command(*NOISE, stderr=CAPTURE).run(stdout=DEVNULL, stderr=DEVNULL).stages[0].stderr == b"err\n"


def test_stderr_goes_where_the_command_says(tmp_path: Path) -> None:
    """A path, a file, a descriptor, nowhere, into stdout, or to a callable, line by line."""
    path = tmp_path / "log"
    assert command(*NOISE, stderr=STDOUT).output() == b"out\nerr\n"
    result = command(*NOISE, stderr=DEVNULL).run(stdout=DEVNULL)
    assert result.stages[0].stderr == b""
    for value in (path, str(path)):
        command(*NOISE, stderr=value).run(stdout=DEVNULL)
        assert path.read_bytes() == b"err\n"
    with path.open("wb") as file:
        for stderr in (file, file.fileno()):
            command(*NOISE, stderr=stderr).run(stdout=DEVNULL)
        assert not file.closed
    assert path.read_bytes() == b"err\nerr\n"
    memory = io.BytesIO()
    command(*NOISE, stderr=memory).run(stdout=DEVNULL)
    assert memory.getvalue() == b"err\n"


def test_a_callable_gets_each_line_of_stderr() -> None:
    """All of them by the time that the run has ended."""
    lines: list[Any] = []
    command("sh", "-c", "printf 'a\\n\\nb\\r\\nc' >&2", stderr=lines.append).run()
    assert [line.rstrip("\n") if isinstance(line, str) else line.rstrip(b"\n") for line in lines] in (
        ["a", "", "b\r", "c"],
        [b"a", b"", b"b\r", b"c"],
    )


def test_the_commands_stderr_goes_before_the_pipelines() -> None:
    """Another command keeps the pipeline's."""
    result = (command(*NOISE) | command("sh", "-c", "cat; echo err >&2", stderr=DEVNULL)).run(
        stdout=DEVNULL, stderr=CAPTURE
    )
    assert [stage.stderr for stage in result.stages] == [b"err\n", b""]


def test_a_file_that_was_handed_over_is_closed_after_the_run(tmp_path: Path) -> None:
    """As for stdout."""
    file = (tmp_path / "log").open("wb")
    command(*NOISE, stderr=closing(file)).run(stdout=DEVNULL)
    assert file.closed


def test_inherited_stderr_is_the_callers(capfd: pytest.CaptureFixture[str]) -> None:
    """It is not captured too."""
    result = command(*NOISE, stderr=INHERIT).run(stdout=DEVNULL)
    assert capfd.readouterr().err == "err\n"
    assert result.stages[0].stderr == b""


def test_an_error_filter_around_a_command_keeps_its_name() -> None:
    """The wrapper is no stage of its own."""
    stage = filter_error(command("false", name="no"), lambda _error: None)
    assert stage.name == "no"
    with contextlib.closing(stage.iter_bytes()) as chunks:
        assert list(chunks) == []
