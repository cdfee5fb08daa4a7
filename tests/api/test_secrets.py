"""Secrets on their way: the clear text gets to children, and only there."""

from __future__ import annotations

import asyncio
import json
import pickle
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    Event,
    ExitError,
    Limits,
    Pipeline,
    PipelineError,
    Secret,
    StartError,
    appending,
    atomic,
    command,
    echo,
    filter_error,
    function,
    ignore_error,
    is_error,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.support.hosts import Host

WORD = "hunter2"
SECRET = Secret(WORD)
MARK = str(SECRET)[:9]


def printed(*args: Any, **options: Any) -> str:
    """Return the arguments as a child gets them, a line each."""
    return command("printf", r"%s\n", *args).text(**options)


# --- Into the child


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        f"a{SECRET}b",
        "password=" + SECRET,
        "%s" % SECRET,  # noqa: UP031 - one of the ways
        ":".join([SECRET] * 2),
        json.dumps({"password": SECRET}),
        f"{SECRET}{SECRET}",
        f"{SECRET}{Secret('other')}",
        SECRET.encode(),
        b"\xff" + SECRET.encode(),
        Path("/run") / SECRET,
        Secret(f"Bearer {SECRET}"),
    ],
    ids=lambda _: "",
)
def test_an_argument_that_was_made_of_a_secret_has_its_clear_text(given: Any) -> None:
    """However it was made; also by a run with limits, which goes through another program."""
    stage = command("printf", "%s", given)
    for options in ({}, {"limits": Limits(nice=1)}):
        got = stage.output(**options)  # type: ignore[arg-type] # a dict of options
        assert WORD.encode() in got
        assert MARK.encode() not in got
    for shown in (repr(stage), str(stage), repr(stage.explain()), str(Pipeline(stage, stage))):
        assert "***" in shown or "printf" in shown
        assert MARK not in shown
        assert WORD not in shown


@pytest.mark.parametrize("hidden", ["", "caf\udce9", "'\"\\$(x)\n", MARK[:5], "x" * 100_000, "größe", "***"])
def test_any_text_without_nul_can_be_hidden(hidden: str) -> None:
    """It reaches the child as it is: as an argument, in the environment and as input."""
    secret = Secret(hidden)
    expected = hidden.encode("utf-8", "surrogateescape")
    assert command("printf", "%s", f"<{secret}>").output() == b"<" + expected + b">"
    assert command("printf", "%s", b"<" + secret.encode()).output() == b"<" + expected
    assert command("sh", "-c", 'printf %s "$A"', env={"A": f"<{secret}"}).output() == b"<" + expected
    assert command("cat").output(input=f"<{secret}") == b"<" + expected


def test_the_environment_has_the_clear_text() -> None:
    """Of a command, of a pipeline, and out of a callable; a Secret, or a text that was made of one."""
    stage = command(
        "sh", "-c", 'echo "$A $B $C $D"', env={"A": SECRET, "B": f"b{SECRET}", "C": lambda: f"c{SECRET}"}
    )
    pipeline = Pipeline(stage, env={"D": f"d{SECRET}", "A": "hidden by the command's"})
    assert pipeline.text() == "hunter2 bhunter2 chunter2 dhunter2\n"
    assert "***" in repr(pipeline)
    assert MARK not in repr(pipeline) + str(pipeline)


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        f"{SECRET}",
        f"{SECRET}".encode(),
        bytearray(SECRET.encode()),
        memoryview(SECRET.encode()),
    ],
    ids=lambda _: "",
)
def test_input_has_the_clear_text(given: Any) -> None:
    """For a command and for a Python stage; given to a run or to the pipeline."""
    assert command("cat").output(input=given) == WORD.encode()
    assert map_lines(bytes.upper).output(input=given) == b"HUNTER2\n"
    pipeline = Pipeline(command("cat"), input=given)
    assert pickle.loads(pickle.dumps(pipeline)).output() == pipeline.output() == WORD.encode()
    assert MARK not in repr(pipeline)


def test_large_input_has_the_clear_text() -> None:
    """However often a secret stands in it."""
    large = "x" * 2_000_000
    assert command("wc", "-c").text(input=f"{large}{SECRET}").strip() == "2000007"
    assert command("uniq", "-c").text(input=f"{SECRET}\n" * 100_000).strip() == "100000 hunter2"


def test_a_signal_is_sent_to_a_stage_whose_name_has_a_secret() -> None:
    """By the name as it was given."""
    run = command("sleep", "60", name=f"sleep {SECRET}").start(stdout=DEVNULL)
    run.send_signal(15, stage=f"sleep {SECRET}")
    assert run.wait(check=False).returncode == -15


def test_a_script_for_a_shell_that_quotes_it_gets_one_word() -> None:
    """The quotes that `shlex.quote` puts around the placeholder stand around the clear text."""
    secret = Secret('a; echo $HOME `id` "b"  &')
    assert command("sh", "-c", f"printf %s {shlex.quote(secret)}").text() == secret.reveal()


def test_input_of_json_has_the_clear_text() -> None:
    """As str and as bytes."""
    text = json.dumps({"user": "me", "password": SECRET})
    for given in (text, text.encode()):
        assert json.loads(command("cat").text(input=given))["password"] == WORD


def test_echo_has_the_clear_text_as_input_has() -> None:
    """It is a text that is given when the pipeline is made."""
    for given in (SECRET, f"a {SECRET}", SECRET.encode()):
        stage = echo(given, end=SECRET)
        assert (stage | command("cat")).text().count(WORD) == 2
        assert pickle.loads(pickle.dumps(stage)).text().count(WORD) == 2
        assert MARK not in repr(stage)


def test_data_of_python_stages_is_not_touched() -> None:
    """The bytes that they write or get are data, whatever stands in them."""
    text = f"{SECRET}\n"

    def write(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        stdout.write(text.encode())

    assert (function(write) | command("cat")).text() == text
    assert (source([text.encode()]) | command("cat")).text() == text
    assert command("cat").output(stdin=[text.encode()]) == text.encode()
    assert (command("echo", SECRET) | map_lines(bytes.upper)).text() == "HUNTER2\n"


def test_a_working_directory_and_a_program_may_have_a_secret(tmp_path: Path) -> None:
    """They are put back, and errors do not show them."""
    folder = tmp_path / WORD
    folder.mkdir()
    assert command("pwd", cwd=tmp_path / SECRET).text().strip() == str(folder)
    assert Pipeline(command("pwd"), cwd=tmp_path / SECRET).text().strip() == str(folder)
    program = folder / "program"
    program.write_text("#!/bin/sh\necho ran\n", encoding="utf-8")
    program.chmod(0o755)
    assert command(tmp_path / SECRET / "program").text() == "ran\n"
    for stage in (
        command("pwd", cwd=f"/no/{SECRET}"),
        Pipeline(command("pwd"), cwd=f"/no/{SECRET}"),
        Pipeline(map_lines(bytes.upper, isolate="process"), cwd=f"/no/{SECRET}"),
        command(f"/no/{SECRET}/program"),
        command(f"{SECRET}-program"),
    ):
        error = stage.run(check=False, stdout=DEVNULL).error
        assert isinstance(error, StartError)
        assert WORD not in f"{error}{error!r}{vars(error.cause)}{error.cause!r}"
        assert MARK not in str(error)
        assert "secret" in str(error) or "/no/***" in str(error)


def test_a_python_stage_sees_the_clear_text_in_its_context() -> None:
    """`ctx.environ` is what a child would get."""
    seen: list[object] = []

    def look(ctx: Any, _stdin: Any, _stdout: Any) -> None:
        seen.extend([ctx.environ["A"], ctx.cwd])

    Pipeline(function(look), env={"A": f"a{SECRET}"}, cwd=Secret("/tmp")).run()
    assert seen == ["ahunter2", "/tmp"]


def test_the_async_methods_put_it_back_too() -> None:
    """Arguments, environment and input."""
    stage = command("sh", "-c", 'echo "$1 $A"; cat', "sh", f"a{SECRET}", env={"A": f"e{SECRET}"})
    assert asyncio.run(stage.atext(input=f"i{SECRET}")) == "ahunter2 ehunter2\nihunter2"


# --- Into other processes


def _runs_a_command(text: str, line: bytes) -> bytes:
    return line + command("printf", "%s", text).output()


def test_an_isolated_stage_has_the_secrets_that_its_function_is_bound_to() -> None:
    """Also in a plain text, because the job brings along what its pickle names."""
    for given in (SECRET, f"<{SECRET}>"):
        stage = map_lines(partial(_runs_a_command, given), isolate="process")
        assert WORD in stage.text(input="x")


def _complains(text: str, _line: bytes) -> bytes:
    raise ValueError(text)


def test_the_traceback_of_an_isolated_stage_shows_stars() -> None:
    """It is a note of the exception."""
    stage = map_lines(partial(_complains, f"<{SECRET}>"), isolate="process")
    error = stage.run(check=False, input="x", stdout=DEVNULL).error
    assert error is not None
    (note,) = error.cause.__notes__
    assert "ValueError: <***>" in note
    assert str(error) == "_complains: ValueError: <***>"


def test_a_stage_carries_its_secrets_when_it_is_pickled(host: Host, tmp_path: Path) -> None:
    """Into a process that has never seen them; and they are still hidden there."""
    stage = command(
        "sh", "-c", 'echo "$1 $A"; pwd; cat', "sh", f"a{SECRET}", env={"A": f"e{SECRET}"}, cwd=Secret("/")
    )
    pipeline = Pipeline(stage, command("cat"), input=f"i{SECRET}\n", env={"B": f"{SECRET}"})
    wrapped = echo(f"i{SECRET}") | ignore_error(filter_error(stage, _same), is_error(ExitError))
    (tmp_path / "pickle").write_bytes(pickle.dumps((pipeline, wrapped)))
    ended = host.run(f"""
        import pickle
        sys.path.append({str(Path(__file__).parents[2])!r})
        for pipeline in pickle.load(open({str(tmp_path / "pickle")!r}, "rb")):
            say(pipeline.text())
            say(repr(pipeline))
        """)
    assert ended.out.count("ahunter2 ehunter2\n/\nihunter2\n") == 2, ended
    assert ended.out.count(WORD) == 6
    assert MARK not in ended.out


def _same(error: BaseException | None) -> BaseException | None:
    return error


# --- Mistakes


@pytest.mark.parametrize(
    "wrong", [SECRET[:40], SECRET.upper(), SECRET[9:], f"a {SECRET[:-3]}"], ids=lambda _: ""
)
def test_a_cut_or_changed_placeholder_is_a_value_error_at_the_stage(wrong: str) -> None:
    """It names the stage or the option, says what to do, and comes before anything starts."""
    places: dict[str, Callable[[], object]] = {
        r"^stage 'curl': argument 2 holds": lambda: command("curl", "x", wrong),
        r"^stage 'login': argument 1 holds": lambda: command("curl", wrong.encode(), name="login"),
        r"^stage '.*': the program holds": lambda: command(wrong),
        r"^stage 'curl': env\['A'\] holds": lambda: command("curl", env={"A": wrong}),
        r"^env\['A'\] holds": lambda: Pipeline(command("curl"), env={"A": wrong}),
        r"^input holds": lambda: command("cat").run(input=wrong),
        r"^input  ?holds": lambda: command("cat").run(input=wrong.encode()),
        r"^cwd holds": lambda: command("cat", cwd=wrong),
        r"^text holds": lambda: echo(wrong),
    }
    for message, make in places.items():
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "reveal()" in str(caught.value)
        assert type(caught.value) is ValueError
    with pytest.raises(StartError, match="starting stage \"true\": environment variable 'A' holds"):
        command("true", env={"A": lambda: wrong}).run()


def test_a_path_that_penstock_opens_may_have_no_secret(tmp_path: Path) -> None:
    """No file is made whose name is a placeholder; the error does not show it."""
    path = tmp_path / SECRET
    for make in (
        lambda: command("true").run(stdout=path),
        lambda: command("true").run(stdin=str(path)),
        lambda: command("true", stderr=path),
        lambda: command("true").run(stdout=atomic(path)),
        lambda: command("true").run(stdout=appending(path)),
    ):
        with pytest.raises(ValueError, match=r"cannot .* with a Secret|cannot have a Secret") as caught:
            make()
        assert MARK not in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="name of a variable cannot have a Secret"):
        command("true", env={f"A_{SECRET}": "1"})


def test_a_wrong_option_shows_no_placeholder() -> None:
    """The message has *** instead."""
    wrong: Any = f"a{SECRET}"
    wrongs: Any = [wrong]
    anything: Any = command
    for call in (
        lambda: command("true").run(timeout=wrong),
        lambda: command("true").run(pipe_errors=wrong),
        lambda: command("true").run(on_event=wrong),
        lambda: command("true").run(wrong),
        lambda: anything("true").run(**{wrong: 1}),
        lambda: anything("true", ok_codes=wrong),
        lambda: anything("true", limits=wrong),
        lambda: anything("true", **{wrong: 1}),
        lambda: anything("true", wrongs),
        lambda: anything("true", name=wrongs),
        lambda: map_lines(bytes.upper, name=wrongs),
        lambda: function(wrong),
        lambda: echo(wrongs),
        lambda: Pipeline(wrong),
        lambda: Limits(name=wrong),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert "***" in str(caught.value)
        assert MARK not in str(caught.value)


# --- What is shown


def _everything(result: Any) -> Iterator[str]:
    yield from (str(result), repr(result), json.dumps(result.to_dict()), result._repr_html_())
    for stage in result.stages:
        yield from (repr(stage), stage.name)
    if result.error is not None:
        yield from (str(result.error), repr(result.error), *getattr(result.error, "__notes__", ()))


def test_nothing_that_a_run_shows_has_the_secret_or_its_placeholder(caplog: pytest.LogCaptureFixture) -> None:
    """Names, arguments, events, results and errors; a secret in the middle of a text is *** there."""
    events: list[Event] = []
    stage = command("sh", "-c", "exit 3", f"--password={SECRET}", name=f"login as {SECRET}")
    failing = map_lines(partial(_fails, f"x{SECRET}"), name=f"map {SECRET}")

    def complain(event: Event) -> None:
        events.append(event)
        raise ValueError(f"about {SECRET}")

    for pipeline in (stage, failing, Pipeline(stage, name=f"all {SECRET}", on_event=complain)):
        result = pipeline.run(check=False, stdout=DEVNULL, input="a")
        texts = [*_everything(result), repr(pipeline), str(pipeline), pipeline.name, str(pipeline.explain())]
        texts += [repr(pipeline.explain()), str([edge.source for edge in pipeline.explain().edges])]
        for text in texts:
            assert WORD not in text
            assert MARK not in text
        assert "***" in result.stages[0].name
    assert events
    assert all(MARK not in f"{event.stage}{event.message}" for event in events)
    assert isinstance(result.stages[0].error, ExitError)
    assert result.stages[0].error.cmd[-1] == "--password=***"
    assert result.stage(f"login as {SECRET}") is result.stages[0]
    assert WORD not in caplog.text


def _fails(text: str, _line: bytes) -> bytes:
    raise ValueError(text)


def test_a_child_may_show_it() -> None:
    """What it writes to stderr is quoted in the error, in clear: Penstock does not look for it there."""
    with pytest.raises(PipelineError, match="wrong password hunter2"):
        command("sh", "-c", 'echo "wrong password $1" >&2; exit 1', "sh", SECRET).run()


def test_a_run_that_is_shown_while_it_runs_shows_stars() -> None:
    """Its repr, and the text of its timeout."""
    run = command("sleep", "60", name=f"wait for {SECRET}").start(stdout=DEVNULL)
    try:
        assert MARK not in repr(run)
    finally:
        run.cancel(f"because of {SECRET}")
        error = run.wait(check=False).error
    assert MARK not in str(error)
    assert "***" in str(error)


def test_an_inherited_variable_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.environ` is everybody's, and gets what a str has: the placeholder."""
    monkeypatch.setenv("TOKEN_OF_THIS_TEST", SECRET)
    assert (
        command(sys.executable, "-c", "import os; print(os.environ['TOKEN_OF_THIS_TEST'])")
        .text()
        .startswith(MARK)
    )


def test_chunks_of_a_transform_may_be_made_of_a_secret_that_is_revealed() -> None:
    """`reveal()` is the way out."""

    def add(chunks: Iterable[bytes]) -> Iterable[bytes]:
        yield from chunks
        yield SECRET.reveal().encode()

    assert (echo("a") | transform(add)).run(stdout=CAPTURE).stdout == b"a\nhunter2"
