"""A graph is run, cancelled, limited, pickled and looked at like any pipeline."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.interrupts import Interruption
from tests.support.processes import sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Event,
    Input,
    Limits,
    Output,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    Requirements,
    Result,
    command,
    concat,
    echo,
    function,
    map_lines,
    merge,
    reading,
    shared,
    source,
    tee,
    writing,
)
from penstock.runtime import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import RunningStage, StageContext

CAT = command("cat")
SLEEP = command("sleep", "1000")
UPPER = map_lines(bytes.upper)
ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""


def hold(_ctx: object, stdin: Any, _stdout: Any) -> None:
    """Read until the end."""
    stdin.read()


def hang(_ctx: object, _stdin: Any, stdout: Any) -> None:
    """Write for ever."""
    while True:
        stdout.write(b"y\n" * 1000)


ENDLESS: dict[str, Callable[[], Pipeline]] = {
    "tee": lambda: command("yes") | tee(command("cat", "-n").to(DEVNULL), function(hold)) | command("wc"),
    "silent-tee": lambda: SLEEP | tee(CAT, UPPER) | CAT,
    "blocked-tee": lambda: command("yes") | tee(SLEEP) | CAT,
    "merge": lambda: merge(command("yes"), SLEEP, function(hang)) | command("wc"),
    "blocked-merge": lambda: merge(command("yes"), function(hang)) | SLEEP,
    "concat": lambda: concat(SLEEP, command("yes")) | UPPER,
    "shared": lambda: concat(words := shared(command("yes")), words) | command("wc"),
    "reading": lambda: command("cat", reading(SLEEP), reading(function(hang), via="fifo")),
    "unopened": lambda: command("sh", "-c", "exec sleep 1000", reading(command("yes"), via="fifo")),
    "writing": lambda: command("yes") | command("tee", writing(SLEEP), writing(function(hold), via="fifo")),
    "unwritten": lambda: command("sh", "-c", "exec sleep 1000", writing(CAT, via="fifo"), writing(CAT)),
    "stubborn": lambda: command("yes") | tee(sh("trap '' TERM; while :; do sleep 1; done")) | CAT,
}
each_endless = pytest.mark.parametrize("make", ENDLESS.values(), ids=ENDLESS)


@each_endless
def test_a_deadline_ends_every_stage(make: Callable[[], Pipeline]) -> None:
    """Whatever it is blocked in."""
    began = time.monotonic()
    with pytest.raises(PipelineTimeout):
        make().run(stdout=DEVNULL, timeout=0.15, grace=0.2)
    assert time.monotonic() - began < 0.15 + 0.2 + 1


@each_endless
def test_cancel_ends_every_stage(make: Callable[[], Pipeline]) -> None:
    """From another thread, at any time."""
    run = make().start(stdout=DEVNULL, grace=0.2)
    timer = threading.Timer(0.1, run.cancel, ("enough",))
    timer.start()
    with pytest.raises(PipelineCancelled, match="enough"):
        run.wait(DEADLINE)
    timer.join()
    assert all(stage.error is not None for stage in run.wait(check=False).stages)


@each_endless
def test_leaving_a_block_by_an_exception_cancels(make: Callable[[], Pipeline]) -> None:
    """The exception is the one that was raised."""
    with pytest.raises(ZeroDivisionError), make().start(stdout=DEVNULL, grace=0.2):
        raise ZeroDivisionError


@each_endless
def test_closing_the_output_early_is_a_success(make: Callable[[], Pipeline]) -> None:
    """The stages that wait for nothing of it are ended too."""
    chunks = make().iter_bytes(grace=0.2, timeout=ENDS_S)
    chunks.close()
    run = make().start(stdout=PIPE, grace=0.2)
    run.cancel()
    run.wait(DEADLINE, check=False)
    assert run.stdout is not None
    run.stdout.close()


def test_an_iterator_that_is_closed_after_a_line_ends_the_branches() -> None:
    """They have no more input, and what they wrote is dropped."""
    lines = (command("yes") | tee(command("wc").to(DEVNULL)) | UPPER).iter_lines(timeout=ENDS_S)
    assert [next(lines), next(lines)] == [b"Y", b"Y"]
    lines.close()


def test_a_failure_cancels_the_rest_if_asked() -> None:
    """`fail_fast`: in a branch as well, and the stage that failed is named."""
    broken = command("sh", "-c", "exit 3")
    for pipeline in (
        SLEEP | tee(broken) | CAT,
        command("cat", reading(SLEEP), reading(broken)),
        merge(SLEEP, broken),
        command("sh", "-c", "exec sleep 1000", writing(function(lambda *_: 1 / 0, name="sh"))),
    ):
        result = Pipeline(pipeline).run(stdout=DEVNULL, check=False, fail_fast=True, timeout=ENDS_S)
        assert isinstance(result.error, PipelineError)
        assert result.error.stage == "sh"
        assert result.elapsed < 5


def test_a_branch_may_have_a_deadline_of_its_own() -> None:
    """Only its stages are ended by it, and the others get everything."""
    branch = Pipeline(CAT, sh("sleep 1000"), timeout=0.2, grace=0.1, name="slow")
    result = (command("seq", "9") | tee(branch) | CAT).run(stdout=CAPTURE, check=False, timeout=ENDS_S)
    assert isinstance(result.error, PipelineTimeout)
    assert (result.stdout or b"").count(b"\n") == 9


def test_events_name_every_stage() -> None:
    """Each starts and exits."""
    events: list[Event] = []
    names = ["seq", "tee", "wc", "a", "b", "paste"]
    branch = command("wc")
    a, b = command("seq", "3", name="a"), command("seq", "3", name="b")
    (command("seq", "3") | tee(branch) | command("paste", reading(a), reading(b))).run(
        stdout=DEVNULL, on_event=events.append
    )
    for kind in ("start", "exit"):
        assert sorted(event.stage for event in events if event.kind == kind) == sorted(names)


def test_limits_hold_in_branches() -> None:
    """Those of the pipeline, and of a stage."""
    result = (command("seq", "9") | tee(Pipeline(sh("ulimit -n"), name="files")) | CAT).run(
        stdout=CAPTURE, limits=Limits(open_files=100)
    )
    assert result.output("files") == b"100\n"


def test_the_source_is_stopped_and_the_rest_is_finished() -> None:
    """`stop_source` ends the first stage, and branches and joins get all that it has written."""
    endless = sh("while :; do echo more; sleep 0.01; done")
    run = (endless | tee(Pipeline(command("wc", "-l"), name="lines")) | CAT).start(stdout=PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"more\n"
    run.stop_source()
    rest = run.stdout.read().count(b"\n")
    run.stdout.close()
    assert int(run.wait(DEADLINE).output("lines")) == rest + 1


def test_a_pipe_is_read_while_branches_go_on() -> None:
    """`start(stdin=PIPE, stdout=PIPE)`: a dialogue through a tee."""
    with (tee(Pipeline(CAT, name="copy")) | CAT).start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for number in range(5):
            run.stdin.write(b"%d\n" % number)
            run.stdin.flush()
            assert run.stdout.readline() == b"%d\n" % number
    assert run.wait().output("copy") == b"0\n1\n2\n3\n4\n"


def graph() -> Pipeline:
    """Return a graph with every kind of stage; its output is 1..9 thrice."""
    lines = shared(command("seq", "9"))
    joined = concat(lines, command("cat", reading(lines | CAT), reading(lines, via="fifo")))
    return (
        joined | command("tee", writing(Pipeline(command("wc", "-l"), name="lines"))) | tee(merge_of_branch())
    )


def merge_of_branch() -> Pipeline:
    """Return a branch that reads another source."""
    return Pipeline(
        command("paste", "-", reading(merge(command("seq", "9"), command("echo", "x")))), name="pasted"
    )


def check(result: Result) -> None:
    """Fail if a run of the graph was not right."""
    assert result.error is None
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 10)) * 3
    assert int(result.output("lines")) == 27
    assert result.output("pasted").count(b"\n") == 27


def test_a_graph_is_a_value() -> None:
    """It runs again and again, also as a copy."""
    pipeline = graph()
    copy = pickle.loads(pickle.dumps(pipeline))
    for each in (pipeline, pipeline, copy, copy):
        check(each.run(stdout=CAPTURE, timeout=ENDS_S))
    assert repr(copy) == repr(pipeline)


def test_graphs_run_in_many_threads(together: Callable[[list[Callable[[], None]]], None]) -> None:
    """Twenty at once, and all of them are the same value."""
    pipeline = graph()
    together([lambda: check(pipeline.run(stdout=CAPTURE, timeout=ENDS_S))] * 20)


def test_a_graph_in_the_background_is_waited_for_in_another_thread() -> None:
    """As any run."""
    run = graph().start(stdout=CAPTURE)
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(run.wait(DEADLINE)))
    thread.start()
    thread.join(DEADLINE)
    check(results[0])


class Holder:
    """A custom stage that holds a pipeline."""

    name = "holder"
    requirements = Requirements()

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def start(self, ctx: StageContext, stdin: Input, stdout: Output) -> RunningStage:
        """Start what it holds."""
        running: RunningStage = (
            self.pipeline.start_stage(ctx, stdin, stdout)
            if hasattr(self.pipeline, "start_stage")
            else self.pipeline.start(ctx, stdin, stdout)
        )
        return running


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (tee(DEVNULL), b"a\n"),
        (tee(UPPER), b"a\n"),
        (CAT | tee(DEVNULL) | UPPER, b"A\n"),
        (command("paste", "-", reading(command("echo", "b"))), b"a\tb\n"),
        (CAT | command("tee", writing(DEVNULL)), b"a\n"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("before", [CAT, UPPER], ids=repr)
def test_a_custom_stage_may_hold_a_graph(before: Any, inner: Pipeline, expected: bytes) -> None:
    """Between commands and functions."""
    found = (before | Holder(inner) | CAT).output(input=b"a\n", timeout=ENDS_S)
    assert found.lower() == expected.lower()


def test_a_custom_stage_may_hold_a_source() -> None:
    """A merge, a concat and a shared pipeline take no stdin from it."""
    for inner in (merge(CAT, command("echo", "b")), concat(CAT, command("echo", "b"))):
        lines = Holder(inner)
        lines.requirements = Requirements()
        result = Pipeline(lines, CAT).run(stdout=CAPTURE, check=False, timeout=ENDS_S)
        assert result.error is None or "takes no stdin" in str(result.error)


def test_a_failure_within_a_custom_stage_is_named() -> None:
    """The branch that failed is the cause."""
    result = (CAT | Holder(tee(command("false")) | CAT)).run(
        stdout=CAPTURE, check=False, timeout=ENDS_S, input=b"a"
    )
    assert isinstance(result.error, PipelineError)
    assert "false" in str(result.error)
    assert result.stdout == b"a"


def test_the_plan_shows_nodes_by_id_and_ports() -> None:
    """Two `cat`s are two nodes, and the edges of a diamond are elastic."""
    lines = shared(CAT)
    plan = (lines | tee(CAT) | command("paste", "-", reading(lines))).explain()
    kinds = [(node.id, node.name, node.kind) for node in plan.nodes]
    assert len({node_id for node_id, _, _ in kinds}) == len(kinds)
    assert [name for _, name, _ in kinds].count("cat") >= 2
    split = next(node.id for node in plan.nodes if node.kind == "split")
    found = [(edge.source, edge.target, edge.port, edge.elastic) for edge in plan.edges]
    assert [edge.elastic for edge in plan.edges if edge.source_id == split] == [True, True]
    assert ("tee", "paste", "main", False) in found or ("tee", "paste", "main", True) in found
    for edge in plan.edges:
        assert edge.source in str(plan)
        assert edge.kind in str(plan)
    assert [node.kind for node in plan.nodes].count("endpoint") == 3


def test_the_plan_and_the_result_agree() -> None:
    """On nodes, edges and their carriers."""
    pipeline = graph()
    plan, result = pipeline.explain(stdout=CAPTURE), pipeline.run(stdout=CAPTURE)
    planned = [(edge.source_id, edge.target_id, edge.kind) for edge in plan.edges]
    assert [(edge.source_id, edge.target_id, edge.kind) for edge in result.edges] == planned
    assert [stage.id for stage in result.stages] == [
        node.id for node in plan.nodes if node.kind != "endpoint"
    ]


def test_interrupting_the_process_ends_a_graph() -> None:
    """Ctrl-C while it is waited for is raised, and nothing is left."""
    pipeline = command("yes") | tee(command("wc"), function(hold)) | command("wc")

    def interrupt() -> None:
        until(lambda: supervisor.active_runs or True)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(stdout=DEVNULL, timeout=ENDS_S)
    thread.join()


@pytest.mark.slow
@pytest.mark.timeout(100)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("via", ["fd", "fifo"])
def test_an_interrupt_at_any_moment_ends_a_graph(first: int, via: Any) -> None:
    """Some moments spread over start, wait and deadline; the leak check looks for what is left."""
    lines = shared(source([b"a\n"]))
    pipeline = command("cat", reading(lines, via=via), reading(lines | SLEEP)) | tee(CAT) | merge_of_branch()

    def run() -> None:
        pipeline.run(stdout=DEVNULL, timeout=0.05, grace=0.2, check=False)

    run()  # what is loaded once, is loaded
    for turn in range(20 + 67 * first, 6000, 211):
        interruption, raised = Interruption(turn), False
        try:
            with interruption:
                run()
        except KeyboardInterrupt:
            raised = True
        assert raised or interruption.left > 0, f"it was swallowed in {interruption.where}"
        assert not supervisor.active_runs, f"a run that has ended is held after one in {interruption.where}"


def test_the_status_of_a_success_is_that_of_the_last_stage_outside_of_branches() -> None:
    """As in a line; a branch has a status of its own."""
    status = command("sh", "-c", "cat >/dev/null; exit 3", ok_codes=[3])
    result = (echo("x") | command("cat") | tee(status)).run(stdout=DEVNULL)
    assert (result.returncode, result.stage("sh").returncode) == (None, 3)
    result = (echo("x") | tee(status) | command("cat")).run(stdout=DEVNULL)
    assert (result.returncode, result.returncodes) == (0, (None, None, 3, 0))
