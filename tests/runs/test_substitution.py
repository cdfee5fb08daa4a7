"""`reading`, `writing` and `Arg`: names of pipes as arguments of a command."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh

from penstock import (
    CAPTURE,
    DEVNULL,
    Arg,
    Event,
    ExitError,
    Pipeline,
    PipelineError,
    Result,
    StartError,
    command,
    echo,
    function,
    map_lines,
    reading,
    shared,
    tee,
    writing,
)

if TYPE_CHECKING:
    from tests.support.processes import Strays

PRINT = command("printf", "a\\nb\\n")
CAT = command("cat")
UPPER = map_lines(bytes.upper)
ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""
VIA = pytest.mark.parametrize("via", ["fd", "fifo"])


def run(pipeline: Any, **options: Any) -> Result:
    """Run it, capture its stdout, and return the result of a failure as well."""
    result: Result = pipeline.run(**{"stdout": CAPTURE, "check": False, "timeout": ENDS_S, **options})
    return result


@VIA
@pytest.mark.parametrize("one", [PRINT, PRINT | UPPER, echo("a\nb"), PRINT | CAT | CAT], ids=repr)
def test_a_program_reads_sources_by_name(one: Any, via: Any) -> None:
    """Commands, functions and pipelines."""
    found = run(command("paste", reading(one, via=via), reading(PRINT, via=via), "-"), input=b"x\ny\n")
    assert found.error is None
    assert (found.stdout or b"").lower() == b"a\ta\tx\nb\tb\ty\n"


@VIA
def test_a_large_source_arrives_complete(via: Any) -> None:
    """It is more than a pipe holds."""
    data = os.urandom(1 << 20) * 5
    assert command("cat", reading(Pipeline(CAT, input=data), via=via)).output(timeout=ENDS_S) == data


@VIA
def test_an_empty_source_is_an_empty_file(via: Any) -> None:
    """Not a name that nobody opens."""
    assert run(command("cat", reading(command("true"), via=via), reading(PRINT, via=via))).stdout == b"a\nb\n"


@VIA
def test_a_program_writes_into_branches_by_name(via: Any, tmp_path: Path) -> None:
    """Pipelines, paths, objects, and several of them."""
    path = tmp_path / "copy"
    names = [
        writing(command("wc", "-c"), via=via),
        writing(path, via=via),
        writing(Pipeline(UPPER, name="loud"), via=via),
    ]
    result = run(PRINT | command("tee", *names) | CAT)
    assert result.error is None
    assert result.stdout == path.read_bytes() == b"a\nb\n"
    assert int(result.output("wc")) == 4
    assert result.output("loud") == b"A\nB\n"


@VIA
def test_large_branches_arrive_complete(via: Any) -> None:
    """They are more than pipes hold."""
    data = os.urandom(1 << 20) * 5
    names = [writing(Pipeline(CAT, name=name), via=via) for name in "ab"]
    result = run(command("tee", *names), input=data)
    assert (result.stdout, result.outputs) == (data, (("a", data), ("b", data)))


@VIA
def test_the_failure_of_a_source_is_that_of_the_run(via: Any) -> None:
    """`comm -12 <(sort nosuch) <(b)` of bash succeeds; this names sort."""
    pipeline = command("comm", "-12", reading(command("sort", "nosuch"), via=via), reading(PRINT, via=via))
    with pytest.raises(PipelineError) as caught:
        pipeline.run(stdout=DEVNULL, timeout=ENDS_S)
    assert caught.value.stage == "sort"
    assert isinstance(caught.value.cause, ExitError)
    assert "nosuch" in str(caught.value)


@VIA
@pytest.mark.parametrize(
    "stage", [sh("cat; exit 3"), function(lambda _c, i, _o: [i.read(), 1 / 0])], ids=repr
)
def test_the_failure_of_a_branch_is_that_of_the_run(stage: Any, via: Any) -> None:
    """And it is waited for."""
    result = run(PRINT | command("tee", writing(stage, via=via)))
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == stage.name
    assert result.stdout == b"a\nb\n"


@VIA
def test_a_branch_is_waited_for(via: Any, tmp_path: Path) -> None:
    """After the program and the last stage have ended."""
    path = tmp_path / "late"
    run(PRINT | command("tee", writing(sh(f"cat >/dev/null; sleep 0.3; echo done > {path}"), via=via)))
    assert path.read_text() == "done\n"


@VIA
def test_a_program_that_reads_nothing_has_had_enough(via: Any) -> None:
    """Its sources end, endless ones too, and so do the branches of one that writes nothing."""
    sources = [reading(command("yes"), via=via), reading(PRINT, via=via)]
    result = run(command("true", *sources, writing(command("wc", "-c"), via=via)))
    assert result.error is None
    assert int(result.output("wc")) == 0


@VIA
def test_a_program_that_fails_is_named(via: Any) -> None:
    """Though its sources meet closed pipes."""
    result = run(command("sh", "-c", "exit 3", reading(command("yes"), via=via), name="bad"))
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "bad"


@VIA
def test_a_program_that_cannot_start_leaves_nothing(via: Any) -> None:
    """Its sources are ended."""
    result = run(command("./nosuch", reading(command("yes"), via=via), writing(CAT, via=via)))
    assert isinstance(result.error, StartError)
    assert result.error.stage == "./nosuch"


@VIA
def test_a_source_that_cannot_start_ends_the_run(via: Any) -> None:
    """Before the program runs."""
    result = run(command("cat", reading(command("./nosuch"), via=via)))
    assert isinstance(result.error, StartError)
    assert result.error.stage == "./nosuch"


@VIA
def test_an_argument_may_hold_a_name_anywhere(via: Any) -> None:
    """Between texts and bytes, and several in one."""
    assert command("dd", Arg("if=", reading(PRINT, via=via)), "status=none").output() == b"a\nb\n"
    made = Arg("x:", reading(PRINT, via=via), b":", reading(CAT, via=via), Path("/y"))
    text = command("echo", made).text(timeout=ENDS_S)
    parts = text.strip().split(":")
    assert (parts[0], parts[2][-2:]) == ("x", "/y")
    assert parts[1].startswith("/dev/fd/" if via == "fd" else tempfile.gettempdir())
    result = run(PRINT | command("dd", Arg(b"of=", writing(command("wc", "-c"), via=via)), "status=none"))
    assert int(result.output("wc")) == 4


def test_mistakes_are_named_when_they_are_made() -> None:
    """In arguments, sources and branches."""
    with pytest.raises(TypeError, match="a part of an Arg must be"):
        Arg(1)
    with pytest.raises(ValueError, match="a part of an Arg"):
        Arg("a\0b")
    with pytest.raises(ValueError, match="via must be"):
        writing(CAT, via="file")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="suffix"):
        reading(CAT, suffix=".gz")
    with pytest.raises(ValueError, match="suffix"):
        writing(CAT, via="fifo", suffix="a/b")
    with pytest.raises(TypeError, match="suffix must be a str"):
        reading(CAT, via="fifo", suffix=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a stage or pipeline"):
        reading(3)
    with pytest.raises(ValueError, match="cannot have stdout"):
        reading(CAT.to("file"))
    with pytest.raises(ValueError, match="branch 'cat' cannot have stdin"):
        writing(Pipeline(CAT, stdin=DEVNULL))
    with pytest.raises(TypeError, match=r"branch '3\.5'"):
        writing(3.5)


def test_a_name_is_given_once() -> None:
    """A pipe has one reader."""
    name = reading(PRINT)
    with pytest.raises(ValueError, match="given twice"):
        command("cat", name, name)


def test_one_name_in_two_commands_is_two_pipes() -> None:
    """A value is reusable: the source runs twice."""
    name = reading(PRINT)
    assert (command("cat", name) | command("cat", "-", name)).output() == b"a\nb\n" * 2


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    """As a text and as a path."""
    path = tmp_path / "data"
    path.write_text("data")
    assert reading(path) == reading(str(path)) == str(path)
    assert command("cat", reading(path)).output() == b"data"


def test_a_source_has_a_stdin_of_its_own() -> None:
    """None of them reads that of the run."""
    names = [reading(Pipeline(CAT, input=b"own\n")), reading(CAT), reading(Pipeline(CAT, stdin="/dev/null"))]
    assert command("cat", "-", *names).output(input=b"run\n") == b"run\nown\n"


def test_a_fifo_lies_in_a_private_folder_and_has_its_suffix() -> None:
    """It is gone after the run."""
    script = 'stat -c "%a %F" "$1" "$(dirname "$1")"; echo "$1"; cat "$1" >/dev/null'
    text = command("sh", "-c", script, "sh", reading(PRINT, via="fifo", suffix=".gz")).text(timeout=ENDS_S)
    fifo, folder, path = text.splitlines()
    assert (fifo, folder) == ("600 fifo", "700 directory")
    assert path.endswith(".gz")
    assert not Path(path).parent.exists()


def test_children_of_a_program_open_a_fifo() -> None:
    """They need not inherit a descriptor, and may open it late."""
    script = 'sleep 0.1; exec 3>&-; (cat "$0"; true)'
    assert command("sh", "-c", script, reading(PRINT, via="fifo")).output(timeout=ENDS_S) == b"a\nb\n"


def test_only_its_program_inherits_a_pipe() -> None:
    """Neither the source nor another command has it."""
    listing = command("sh", "-c", "ls /proc/self/fd | wc -l", name="list")
    few = int(listing.text())
    assert int(command("cat", reading(listing)).text()) == few
    program = command("sh", "-c", "ls /proc/self/fd | wc -l", reading(PRINT))
    assert int(program.text()) == few + 1
    result = run(program | tee(listing) | listing)
    assert int(result.stdout or b"") == int(result.output("list")) == few


@VIA
def test_a_process_that_is_left_behind_delays_nobody(via: Any, strays: Strays) -> None:
    """The branch sees EOF the grace time after its program has exited; an event says so."""
    events: list[Event] = []
    script = 'printf end > "$0"; exec 3> "$0"; sleep 100 >/dev/null 2>&1 & echo $! >> "$PIDS"'
    program = command("sh", "-c", script, writing(command("wc", "-c"), via=via), env=strays.env)
    if via == "fd":  # its descriptor is inherited as it is
        program = command(
            "sh", "-c", 'printf end > "$0"; sleep 100 >/dev/null 2>&1 & echo $! >> "$PIDS"',
            writing(command("wc", "-c")), env=strays.env,
        )  # fmt: skip
    result = run(program, grace=0.3, on_event=events.append)
    assert result.error is None
    assert int(result.output("wc")) == 3
    assert 0.25 < result.elapsed < 5
    assert [event.kind for event in events if event.kind == "leftover"] == ["leftover"]


@VIA
def test_a_program_that_is_killed_ends_its_branches(via: Any) -> None:
    """They get what it had written."""
    script = 'exec 3> "$0"; printf part >&3; kill -9 $$'
    result = run(command("sh", "-c", script, writing(Pipeline(CAT, name="copy"), via=via)))
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, ExitError)
    assert result.error.cause.signal == signal.SIGKILL
    assert result.output("copy") == b"part"


@VIA
def test_names_work_in_every_place(via: Any) -> None:
    """In a branch, in a source, in a nested pipeline and around a shared one."""
    lines = shared(PRINT)
    inner = Pipeline(command("paste", reading(lines, via=via), "-"), cwd="/", name="inner")
    branch = Pipeline(command("paste", "-", reading(lines | UPPER, via=via)), name="branch")
    result = run(lines | inner | tee(branch) | command("paste", "-", reading(command("cat", reading(PRINT)))))
    assert result.error is None
    assert result.stdout == b"a\ta\ta\nb\tb\tb\n"
    assert result.output("branch") == b"a\ta\tA\nb\tb\tB\n"


def test_a_command_with_names_is_shown_as_in_a_shell() -> None:
    """Its repr is that of the constructors."""
    made = command("paste", reading(PRINT), Arg("a", writing(CAT)))
    assert "reading(" in repr(made)
    assert "Arg('a', writing(" in repr(made)


@VIA
@pytest.mark.parametrize("held", [False, True], ids=["exits", "leaves a process"])
def test_a_slow_branch_gets_all_that_a_program_wrote(via: Any, held: bool, strays: Strays) -> None:  # noqa: FBT001 - a parameter
    """Also what waits in the pipe of the relay when the grace time after the exit of the program is over."""
    events: list[Event] = []
    script = 'exec 9> "$0"; seq 100000 >&9; '
    if held:
        script += 'sleep 100 >/dev/null 2>&1 & echo $! >> "$PIDS"'
    slow = command("sh", "-c", "sleep 1; wc -l", name="slow")
    program = command("sh", "-c", script, writing(slow, via=via), env=strays.env)
    before = time.process_time()
    result = run(program, stdout=DEVNULL, grace=0.1, on_event=events.append)
    assert int(result.output("slow")) == 100000
    assert time.process_time() - before < 0.7  # it waits, and does not ask again and again
    assert [event.kind for event in events if event.kind == "leftover"] == ["leftover"] * held
