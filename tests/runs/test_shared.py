"""`shared`: one node, however often it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    Pipeline,
    PipelineError,
    SpoolLimitExceeded,
    Stalled,
    command,
    concat,
    function,
    ignore_error,
    is_sigpipe,
    map_lines,
    merge,
    reading,
    shared,
    tee,
)

if TYPE_CHECKING:
    from pathlib import Path

CAT = command("cat")
ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""


def counting(path: Path) -> Pipeline:
    """Return a source that notes each time that it runs."""
    return Pipeline(command("sh", "-c", 'echo run >> "$0"; seq 9', str(path)))


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_a_shared_pipeline_runs_once(uses: int, tmp_path: Path) -> None:
    """As often as it is used."""
    numbers = shared(counting(tmp_path / "runs"))
    parts = [numbers, numbers | CAT, Pipeline(numbers, map_lines(bytes.strip), cwd="/")][:uses]
    result = concat(*parts).run(stdout=CAPTURE)
    assert (result.stdout or b"").split() == [b"%d" % number for number in range(1, 10)] * uses
    assert (tmp_path / "runs").read_text() == "run\n"
    assert sum(stage.kind == "split" for stage in result.stages) == (uses > 1)


def test_a_pipeline_that_is_written_twice_runs_twice(tmp_path: Path) -> None:
    """Without `shared`."""
    numbers = counting(tmp_path / "runs")
    assert len(list(concat(numbers, numbers).iter_lines())) == 18
    assert (tmp_path / "runs").read_text() == "run\n" * 2


def test_a_shared_pipeline_alone_is_itself() -> None:
    """It reads the stdin of the run, unless it has its own."""
    assert shared(CAT).output(input=b"a") == b"a"
    assert (shared(CAT) | CAT).output(input=b"a") == b"a"
    assert (shared(Pipeline(CAT, input=b"own")) | CAT).output() == b"own"


def test_the_first_stage_may_share_the_stdin_of_the_run() -> None:
    """With one that is read under a name."""
    lines = shared(CAT)
    joined = lines | command("paste", "-", reading(lines | map_lines(bytes.upper)))
    assert joined.output(input=b"a\nb\n") == b"a\tA\nb\tB\n"


def test_one_that_does_not_begin_the_run_has_no_stdin() -> None:
    """It reads /dev/null, and the run's stdin goes to its first stage."""
    lines = shared(CAT)
    assert command("paste", "-", reading(lines), reading(lines)).output(input=b"a\n") == b"a\t\t\n"


def test_shared_pipelines_use_shared_pipelines(tmp_path: Path) -> None:
    """Each runs once."""
    numbers = shared(counting(tmp_path / "runs"))
    odd = shared(command("grep", "-v", "[2468]", reading(numbers)))
    even = shared(numbers | command("grep", "[2468]"))
    found = merge(odd, even, odd | CAT, numbers, shared(even)).iter_lines()
    each = [b"%d" % number for number in range(1, 10)]
    assert sorted(found) == sorted(each * 2 + each[::2] + each[1::2])
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_source_is_used_in_branches_too() -> None:
    """Of the stage that reads it itself."""
    lines = shared(command("seq", "3"))
    branch = Pipeline(command("paste", "-", reading(lines)), name="both")
    result = (lines | tee(branch) | command("tac")).run(stdout=CAPTURE, timeout=ENDS_S)
    assert result.stdout == b"3\n2\n1\n"
    assert result.output("both") == b"1\t1\n2\t2\n3\t3\n"


def test_a_user_that_leaves_early_is_left_out() -> None:
    """And an endless source ends when all have left."""
    lines = shared(command("yes"))
    pipeline = command(
        "paste", reading(lines | command("head", "-1")), reading(lines | command("head", "-2"))
    )
    result = pipeline.run(stdout=CAPTURE, timeout=ENDS_S)
    assert result.stdout == b"y\ty\n\ty\n"


def test_the_failure_of_a_shared_pipeline_is_that_of_the_run() -> None:
    """It is named once."""
    broken = shared(command("sh", "-c", "echo a; exit 3"))
    result = concat(broken, broken | CAT, broken).run(stdout=CAPTURE, check=False)
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "sh"
    assert result.stdout == b"a\n" * 3
    assert sum(stage.error is not None for stage in result.stages) == 1


def test_options_within_are_its_own() -> None:
    """Also those that the pipeline around its first use has are not: it belongs to the outermost."""
    pwd = shared(Pipeline(command("pwd"), cwd="/usr"))
    bare = shared(command("pwd"))
    inner = Pipeline(concat(pwd, bare), CAT, cwd="/bin")
    assert concat(inner, pwd, bare).output(cwd="/") == b"/usr\n/\n/usr\n/\n"


def test_it_must_come_first() -> None:
    """Its mistakes are those of the graph, and nothing starts."""
    lines = shared(command("seq", "3"))
    with pytest.raises(ValueError, match="must be the first stage"):
        (CAT | lines).output()
    with pytest.raises(ValueError, match="cannot be a branch"):
        tee(lines)
    with pytest.raises(ValueError, match="put the error filter into it"):
        ignore_error(lines, is_sigpipe).output()
    with pytest.raises(ValueError, match="stdin of its own"):
        merge(Pipeline(CAT, input=b"a").then(), Pipeline(lines, input=b"a")).output()
    with pytest.raises(ValueError, match=r"shared\(\) reads the output"):
        shared(CAT.to("file"))
    with pytest.raises(TypeError, match="not a stage or pipeline"):
        shared("cat")


def test_a_stall_names_who_waits_for_whom() -> None:
    """With `spool=0`, and a limit that is too small is named as well."""
    lines = shared(command("seq", "1000000"))
    pipeline = command("paste", reading(lines | command("sort", "-r")), reading(lines))
    for spool, kind in ((0, Stalled), ("1MiB", SpoolLimitExceeded)):
        result = pipeline.run(stdout=DEVNULL, spool=spool, timeout=ENDS_S, check=False)
        assert isinstance(result.error, PipelineError)
        assert isinstance(result.error.cause, kind)
        assert result.error.stage == "shared seq"
    with pytest.raises(
        PipelineError, match="'paste' waits for its reading 1 from 'sort', and does not read its reading 2"
    ):
        pipeline.run(stdout=DEVNULL, spool=0, timeout=ENDS_S)
    with pytest.raises(ValueError, match="spool must be 0 or more bytes"):
        pipeline.run(spool=-1)
    assert pipeline.run(stdout=DEVNULL, spool="64MiB", timeout=ENDS_S).ok


def test_a_graph_that_never_stalls_needs_no_spool() -> None:
    """Slow readers are waited for."""
    lines = shared(command("seq", "200000"))

    def slow(_ctx: object, stdin: Any, stdout: Any) -> None:
        for chunk in stdin.chunks():
            stdout.write(chunk)

    joined = merge(lines | function(slow), lines | CAT, lines) | command("wc", "-l")
    assert joined.text(spool=0, timeout=ENDS_S) == "600000\n"
