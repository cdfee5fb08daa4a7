"""The conformance suite for stages: `check_stage(factory)` checks a stage against every rule of the contract.

Strategy: some rules are checked in a whole run, between a Python source and a Python sink. The others are
checked in a `StageTrial`, which starts the stage by itself and plays both its neighbours. Each rule is a
generator of sentences, one for each way in which the stage breaks it. `check_stage` collects them, and checks
after each rule that the stage left nothing behind.

Every call that may block runs in a thread that is joined with a timeout, so a broken stage costs time but
never hangs the suite. A stage that was killed may have ended by itself just before. The suite does not guess:
it repeats the trial without the kill if the answer matters.

Out of scope: test runners, and any knowledge of the stage under test.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from penstock.api.pipeline import Pipeline
from penstock.core.constants import DEVNULL
from penstock.core.errors import Cancelled, FinishEarly, StartError
from penstock.core.matchers import is_pipe_error
from penstock.core.requirements import Requirements
from penstock.core.stage import RunningStage, Stage
from penstock.runtime.supervisor import supervisor
from penstock.stages.base import traits_of
from penstock.testing.trial import Outcome, ResourceSnapshot, StageTrial, StageUnderTest, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["check_stage"]

_LINES = b"".join(
    b"line %06d of what the conformance suite gives to a stage to read\n" % n for n in range(4096)
)
"""About 256 KiB: more than the pipes of a trial hold."""
_SETTLE_S = 0.02
"""Seconds for a stage to block in its read or write; a shorter time only makes a trial less strict."""


def check_stage(
    factory: Callable[[], Any],
    *,
    input: bytes | None = None,  # noqa: A002 - as in `run(input=...)`
    expect: bytes | None = None,
    reusable: bool = True,
    timeout: float = 10.0,
) -> None:
    r"""Check that the stages which `factory()` returns keep every rule of the contract for stages.

    - `factory` takes no arguments and returns a fresh stage each time: a custom `Stage` object, or the result
      of a constructor such as `command` or `map_lines`.
    - `input` is the bytes that the stage reads, by default 4096 lines of text. `expect` is the bytes that it
      must write then; by default any output will do.
    - `reusable=False` is for a stage that can run only once.
    - `timeout` is the seconds after which a step counts as hanging.

    A stage may fail on its input, read none of it, or never stop writing. It must end once its input has
    ended or its reader has gone. The suite needs no test runner. A stage with an async function runs on an
    asyncio event loop in a thread of the suite.

    Raises AssertionError if the stage breaks rules, with a sentence for each, and TypeError if `factory` is
    not callable.

    >>> from penstock import map_lines
    >>> check_stage(lambda: map_lines(bytes.upper), input=b"a\nb", expect=b"A\nB\n")
    """
    if not callable(factory):
        raise TypeError(f"check_stage() takes a function that makes a stage, not {factory!r}")
    supervisor()  # it outlives every run, so it must not count as a leak of the first one
    data = _LINES if input is None else input
    try:
        case = StageUnderTest(factory, data, expect, reusable=reusable, timeout=timeout)
    except (TypeError, ValueError) as error:  # the pipeline refuses it
        raise AssertionError(f"this cannot be a stage of a pipeline: {error}") from error
    if traits_of(case.stage).asynchronous:
        from penstock.testing.loop_thread import LoopThread  # noqa: PLC0415 - it needs anyio

        case.loop = LoopThread()
    try:
        broken = list(_is_a_stage(case)) or _sentences(_starts_at_once, case)
        if not broken:
            for rule in _RULES:
                broken += _sentences(rule, case)
        if not broken:  # a graph would only show the same faults once more
            broken = _sentences(_works_in_a_graph, case)
    finally:
        if case.loop is not None:
            case.loop.close()
    if broken:
        lines = "".join(f"\n- {sentence}" for sentence in dict.fromkeys(broken))
        raise AssertionError(f"this stage breaks the contract for stages: {case.stage!r}{lines}")


def _sentences(rule: Callable[[StageUnderTest], Iterator[str]], case: StageUnderTest) -> list[str]:
    """Return the ways in which the stage breaks the rule, or else the resources that it leaked."""
    before = ResourceSnapshot()
    title = rule.__name__.strip("_").replace("_", " ")
    found: list[str] = []
    try:
        found += rule(case)
    except Exception as error:  # noqa: BLE001 - the stage is user code, and the other rules must be checked too
        found.append(f"rule {title!r}: the stage raised {error!r}")
    if not found:
        left: list[str] = []

        def nothing_left() -> bool:
            left[:] = ResourceSnapshot().leaked_since(before)
            return not left

        # The last check counts: another one might see a descriptor that the supervisor has just opened.
        case.waits_for("leaks", nothing_left)
        found += [f"it leaves {thing} behind (rule {title!r})" for thing in left]
    return found


def _comes_from(error: BaseException | None, reason: BaseException) -> bool:
    while error is not None and error is not reason:
        error = error.__cause__
    return error is reason


# The rules about a stage as an object.


def _is_a_stage(case: StageUnderTest) -> Iterator[str]:
    """Check that it is a stage; if not, no other rule can be checked."""
    if not isinstance(case.stage, Stage):
        yield "it is not a Stage: name, requirements or start() is missing"
    elif not isinstance(case.stage.requirements, Requirements):
        yield f"its requirements must be a Requirements, not {case.stage.requirements!r}"


def _has_a_name(case: StageUnderTest) -> Iterator[str]:
    name: object = case.stage.name
    if not isinstance(name, str) or not name:
        yield f"its name must be a non-empty str, not {name!r}"


def _explains_its_edges(case: StageUnderTest) -> Iterator[str]:
    plan = Pipeline(case.stage).explain(stdout=DEVNULL)
    nodes = [plan.edges[0].source, *(edge.target for edge in plan.edges)]
    if nodes != list(plan.nodes) or not all(edge.kind and isinstance(edge.kind, str) for edge in plan.edges):
        yield f"explain() does not name its edges: {plan!r}"


def _survives_pickling(case: StageUnderTest) -> Iterator[str]:
    stage = case.fresh()
    try:
        pickled = pickle.dumps(stage)
    except Exception:  # noqa: BLE001 - a stage need not be picklable
        return
    try:
        copy = pickle.loads(pickled)  # noqa: S301 - made two lines above
    except Exception as error:  # noqa: BLE001 - its class may raise anything
        yield f"it can be pickled, but its pickle cannot be loaded: {error!r}"
        return
    if (copy.name, copy.requirements) != (stage.name, stage.requirements):
        yield "it can be pickled, but its copy has another name or other requirements"
    elif case.ordinary is not None:
        difference = case.run(copy, case.data).difference(case.ordinary)
        if difference is not None:
            yield f"it can be pickled, but its copy {difference}"


def _works_in_a_graph(case: StageUnderTest) -> Iterator[str]:
    if case.ordinary is not None:
        difference = case.run(case.fresh(), case.data, branched=True).difference(case.ordinary)
        if difference is not None:
            yield f"in a branch of a graph it {difference}"


# The rules about its runs.


def _starts_at_once(case: StageUnderTest) -> Iterator[str]:
    """Check that start() returns at once; if not, every run would hang."""
    for ends in case.ends:
        with StageTrial(case, ends) as trial:
            starter = Task(trial.start)
            returned = starter.ends(case.step_timeout)
            trial.kill(Cancelled("it was started, which is all"))
        if not returned:
            starter.join(case.timeout)  # its streams are closed now
            yield f"start() has not returned within {case.step_timeout:g} s, {trial.where}"


def _ends_in_a_run(case: StageUnderTest) -> Iterator[str]:
    outcome = case.run(case.fresh(), case.data)
    if outcome.hangs:
        yield (
            f"a run of it between a Python source and a Python sink has not ended within {case.timeout:g} s:"
            " it must end, and close its stdout, once its input has ended"
        )
        return
    case.ordinary = outcome
    if isinstance(outcome.error, StartError):
        yield f"it cannot be started: {outcome.error.cause!r}"
    elif case.expect is not None and outcome.output != case.expect:
        yield f"it writes {outcome.output[:200]!r}, but {case.expect[:200]!r} was expected"


def _takes_empty_input(case: StageUnderTest) -> Iterator[str]:
    if case.run(case.fresh(), b"").hangs:
        yield f"a run of it with empty input has not ended within {case.timeout:g} s"


def _is_reusable(case: StageUnderTest) -> Iterator[str]:
    if not case.reusable or case.ordinary is None:
        return
    stage = case.fresh()
    case.run(stage, case.data)
    difference = case.run(stage, case.data).difference(case.ordinary)
    if difference is not None:
        yield f"it is not reusable: the second run of the same stage {difference}"


def _runs_twice_at_once(case: StageUnderTest) -> Iterator[str]:
    if not case.reusable or case.ordinary is None:
        return
    stage = case.fresh()
    outcomes: list[Outcome] = []
    tasks = [Task(lambda: outcomes.append(case.run(stage, case.data))) for _ in range(2)]
    for task in tasks:
        task.join(3 * case.timeout)  # a run that hangs is waited for, cancelled, and waited for again
    differences = [difference for outcome in outcomes if (difference := outcome.difference(case.ordinary))]
    differences += [f"raises {task.error!r}" for task in tasks if task.error is not None]
    if differences:
        yield f"it is not reusable: one of two runs at the same time {differences[0]}"


def _closes_its_streams(case: StageUnderTest) -> Iterator[str]:
    for ends in case.ends:
        with StageTrial(case, ends) as trial:
            trial.start()
            trial.feed(case.data)
            trial.drain()
            if not trial.ends():
                yield f"wait() has not ended within {case.timeout:g} s of the end of its input, {trial.where}"
                continue
            if trial.refusal is None and not isinstance(trial.running, RunningStage):
                yield f"start() must return a RunningStage, with wait() and kill(), not {trial.running!r}"
            for stream in trial.open_streams():
                yield f"it has ended, but never closes its {stream}, {trial.where}"


def _closes_its_streams_where_it_cannot_start(case: StageUnderTest) -> Iterator[str]:
    for ends in case.ends:
        for closed in ("stdin", "stdout"):
            with StageTrial(case, ends) as trial:
                (trial.input if closed == "stdin" else trial.output).close()
                trial.start()
                trial.feed(case.data)
                trial.drain()
                if not trial.ends():
                    yield f"wait() does not end if its {closed} was closed before its start, {trial.where}"
                    continue
                for stream in trial.open_streams():
                    yield (
                        f"it never closes its {stream} when it cannot run because its {closed} was closed"
                        f" before its start, {trial.where}"
                    )


def _forgives_a_reader_that_leaves(case: StageUnderTest) -> Iterator[str]:
    for ends in case.ends:
        with StageTrial(case, ends) as trial:
            trial.start()
            trial.feed(case.data)
            trial.drain(most=1)
            if not trial.ends():
                yield f"it hangs if the reader of its output leaves early, {trial.where}"
            elif not _is_forgiven(trial.error) and case.ordinary is not None and case.ordinary.error is None:
                yield (
                    "if the reader of its output leaves early, it must end well or with a pipe error,"
                    f" which a run forgives, not with {trial.error!r}, {trial.where}"
                )


def _is_forgiven(error: BaseException | None) -> bool:
    return error is None or isinstance(error, FinishEarly) or is_pipe_error(error)


# The rules about kill().


def _wakes_from_waiting_for_its_first_byte(case: StageUnderTest) -> Iterator[str]:
    def block(trial: StageTrial) -> None:
        trial.drain()

    yield from _killed(case, block, "waiting for the first byte of stdin")


def _wakes_from_reading(case: StageUnderTest) -> Iterator[str]:
    def block(trial: StageTrial) -> None:
        trial.drain()
        trial.feed(case.data, close=False).join(case.step_timeout)

    yield from _killed(case, block, "reading stdin that never ends")


def _wakes_from_writing(case: StageUnderTest) -> Iterator[str]:
    def block(trial: StageTrial) -> None:
        trial.feed(case.data)
        trial.peek().join(case.step_timeout)

    yield from _killed(case, block, "writing stdout that nobody reads")


def _killed(case: StageUnderTest, block: Callable[[StageTrial], None], doing: str) -> Iterator[str]:
    for ends in case.ends:
        with StageTrial(case, ends) as trial:
            trial.start()
            block(trial)
            if trial.waiter is not None:
                trial.waiter.join(_SETTLE_S)
            yield from _killed_now(case, trial, block, doing, ends)


def _killed_now(
    case: StageUnderTest,
    trial: StageTrial,
    block: Callable[[StageTrial], None],
    doing: str,
    ends: tuple[str, str],
) -> Iterator[str]:
    reason = Cancelled("the conformance suite kills it")
    ended_before = trial.waiter is None or not trial.waiter.is_alive()
    yield from _kill_from_a_thread(trial, reason, "kill()")
    yield from _kill_from_a_thread(trial, Cancelled("a second reason"), "a second kill()")
    if not trial.ends():
        yield f"kill() has not woken it within {case.timeout:g} s from {doing}, {trial.where}"
        return
    yield from _kill_from_a_thread(trial, reason, "kill() after the end")
    for stream in trial.open_streams():
        yield f"it was killed while {doing}, and never closes its {stream}, {trial.where}"
    told = ended_before or _comes_from(trial.error, reason)
    if not told and not _ends_by_itself(case, block, ends):
        yield (
            f"it was killed while {doing}, so wait() must raise the reason given to kill(),"
            f" but the outcome is {trial.error!r}, {trial.where}"
        )


def _kill_from_a_thread(trial: StageTrial, reason: BaseException, which: str) -> Iterator[str]:
    killer = Task(lambda: trial.kill(reason))
    if not killer.ends(trial.timeout):
        yield f"{which} does not return, {trial.where}"
    elif killer.error is not None:
        yield f"{which} must not raise, but raised {killer.error!r}, {trial.where}"


def _ends_by_itself(case: StageUnderTest, block: Callable[[StageTrial], None], ends: tuple[str, str]) -> bool:
    """Return whether it ends in the same trial without a kill; then the kill may have come too late."""
    with StageTrial(case, ends) as trial:
        trial.start()
        block(trial)
        return trial.ends()


_RULES: tuple[Callable[[StageUnderTest], Iterator[str]], ...] = (
    _has_a_name,
    _explains_its_edges,
    _ends_in_a_run,  # the others compare with its outcome
    _takes_empty_input,
    _is_reusable,
    _runs_twice_at_once,
    _survives_pickling,
    _closes_its_streams,
    _closes_its_streams_where_it_cannot_start,
    _forgives_a_reader_that_leaves,
    _wakes_from_waiting_for_its_first_byte,
    _wakes_from_reading,
    _wakes_from_writing,
)
