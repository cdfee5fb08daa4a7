"""`Pipeline.map`: one run for each input, some at once, and how the iteration goes."""

from __future__ import annotations

import itertools
import os
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import until

import penstock
from penstock import (
    Limits,
    MapError,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    atomic,
    command,
    function,
    is_error,
    item,
    map_lines,
    map_runs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

echo = command("echo", item)
status = command("sh", "-c", 'exit "$1"', "sh", item)


def outputs(jobs: Any) -> list[Any]:
    return [job.stdout for job in jobs]


class Gate:
    """A function stage that waits until it is opened, and counts those that wait."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.waiting = itertools.count()
        self.count = 0

    def __call__(self, _ctx: object, _stdin: object, _stdout: object) -> None:
        self.count = next(self.waiting) + 1
        assert self.opened.wait(20)


def test_each_input_gives_a_job() -> None:
    jobs = list(echo.map(["a", b"b", Path("c"), 4], collect="bytes", ordered=True))
    assert [job.stdout for job in jobs] == [b"a\n", b"b\n", b"c\n", b"4\n"]
    assert [job.input for job in jobs] == ["a", b"b", Path("c"), 4]
    assert [job.index for job in jobs] == [0, 1, 2, 3]
    assert all(job.ok and job.attempt == 1 and job.error is None and job.result for job in jobs)


def test_no_input_gives_no_job() -> None:
    assert list(echo.map([])) == list(echo.map(iter(()))) == []


def test_text_is_decoded_and_other_bytes_fail_the_job() -> None:
    (good, bad) = command("printf", item).map(
        ["\\303\\251", "\\377"], collect="text", ordered=True, check=False
    )
    assert good.stdout == "é"
    assert bad.stdout == b"\xff"
    assert bad.error is not None
    assert bad.error.stage == "stdout"
    assert isinstance(bad.error.cause, UnicodeDecodeError)


def test_without_item_a_path_is_stdin_and_bytes_are_the_input(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"from a file")
    read = command("cat") | command("wc", "-c")
    assert outputs(read.map([tmp_path / "x", b"four"], collect="text", ordered=True)) == ["11\n", "4\n"]


def test_any_other_input_is_a_mistake_that_is_found_before_anything_starts(tmp_path: Path) -> None:
    touch = command("touch", tmp_path / "x")
    with pytest.raises(ValueError, match=r"use item, or Path\(...\) for stdin"):
        touch.map([b"", "text"])
    jobs = touch.map(iter(["text"]))
    with pytest.raises(ValueError, match=r"input 0, 'text'"):
        list(jobs)
    assert not (tmp_path / "x").exists()


def test_a_slow_first_job_does_not_hold_up_the_others_unless_order_is_asked_for() -> None:
    gate = Gate()

    def pipeline(number: int) -> Pipeline:
        return function(gate) if number == 0 else command("true")

    jobs = map_runs(pipeline, range(4), workers=2)
    first = [next(jobs).index for _ in range(3)]
    gate.opened.set()
    assert (sorted(first), next(jobs).index) == ([1, 2, 3], 0)
    assert [job.index for job in map_runs(pipeline, range(4), workers=2, ordered=True)] == [0, 1, 2, 3]


def test_at_most_so_many_workers_are_busy() -> None:
    gate = Gate()
    with function(gate).map([b""] * 9, workers=3) as jobs:
        taker = threading.Thread(target=next, args=(jobs,))
        taker.start()
        until(lambda: gate.count == 3)
        gate.opened.set()
        taker.join()
    assert gate.count >= 3


def test_an_endless_iterator_is_drawn_no_further_than_its_results_are_taken() -> None:
    drawn = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            drawn.append(number)
            yield number

    with command("true", item).map(numbers(), workers=2) as jobs:
        for taken in range(1, 40):
            next(jobs)
            assert len(drawn) <= taken + 4
        until(lambda: len(drawn) == 39 + 4)
    assert len(drawn) == 39 + 4


def test_jobs_go_on_while_the_consumer_is_busy(tmp_path: Path) -> None:
    with command("touch", tmp_path / "{}", item.path).map(
        [str(tmp_path / str(number)) for number in range(9)], workers=2
    ) as jobs:
        next(jobs)
        until(lambda: len(list(tmp_path.glob("[0-9]"))) == 5)  # the one that was taken, and four


def test_an_iterator_that_blocks_holds_up_no_result() -> None:
    go_on = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        assert go_on.wait(20)
        yield 2

    jobs = command("true", item).map(numbers())
    assert next(jobs).input == 1
    go_on.set()
    assert [job.input for job in jobs] == [2]


def test_an_exception_of_the_inputs_is_raised_after_the_jobs_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    jobs = status.map(numbers())
    assert not next(jobs).ok
    with pytest.raises(KeyError) as caught:
        next(jobs)
    assert caught.value.__notes__[0].startswith("1 of 1 jobs failed")
    assert list(jobs) == []


def test_a_job_fails_if_there_is_no_pipeline_for_its_input() -> None:
    def pipeline(number: int) -> Any:
        return command("true") if number else 1 / number

    def none(_number: int) -> Any:
        return None

    with pytest.raises(MapError) as caught:
        list(map_runs(pipeline, [1, 0], halt="never"))
    (error,) = caught.value.exceptions
    assert isinstance(error, StartError)
    assert isinstance(error.cause, ZeroDivisionError)
    assert error.stage == "pipeline"
    (job,) = map_runs(none, [1], check=False)
    assert "must return a pipeline" in str(job.error)
    assert job.result is None
    (job,) = command("echo", item["sample"]).map([{"other": 1}], check=False)
    assert "there is no 'sample'" in str(job.error)


def test_a_job_that_cannot_be_started_has_failed() -> None:
    (job,) = command("/no/such/program", item).map([1], check=False)
    assert isinstance(job.error, StartError)


def test_the_error_at_the_end_is_a_group_of_the_failures_in_order() -> None:
    jobs = status.map([0, 3, 0, 4], halt="never", workers=4)
    assert sorted(job.index for job in jobs_until_error(jobs)) == [0, 1, 2, 3]
    (error,) = jobs_until_error.errors  # type: ignore[attr-defined]
    assert [each.cause.returncode for each in error.exceptions] == [3, 4]
    assert error.exceptions[0].__notes__[-1] == "the job's input 1, 3"
    assert error.failures == 2
    assert str(error) == "2 of 4 jobs failed (2 sub-exceptions)"
    kept, rest = error.split(lambda each: each is error.exceptions[1])
    assert isinstance(kept, MapError)
    assert isinstance(rest, MapError)


def jobs_until_error(jobs: Any) -> Iterator[Any]:
    """Yield the jobs; keep the error of the end."""
    jobs_until_error.errors = []  # type: ignore[attr-defined]
    try:
        yield from jobs
    except MapError as error:
        jobs_until_error.errors = [error]  # type: ignore[attr-defined]


def test_without_check_the_iteration_just_ends() -> None:
    assert [job.ok for job in status.map([1], check=False)] == [False]


@pytest.mark.parametrize(
    ("halt", "max_failures", "begun"),
    [("soon", 1, 2), ("soon", 2, 4), ("never", 1, 8), ("soon", 0.3, 6), ("now", 2, 4)],
)
def test_a_map_halts_by_its_rule(halt: Any, max_failures: float, begun: int) -> None:
    inputs = [0, 1, 0, 1, 0, 1, 0, 1]
    jobs = list(status.map(inputs, workers=1, halt=halt, max_failures=max_failures, check=False))
    assert len(jobs) == begun


def test_halt_now_cancels_what_runs_and_soon_waits_for_it() -> None:
    def pipeline(number: int) -> Pipeline:
        return command("sh", "-c", "sleep 1000") if number else command("false")

    jobs = map_runs(pipeline, [1, 0], workers=2, halt="now")
    seen = list(jobs_until_error(jobs))
    assert {type(job.error) for job in seen} == {PipelineError, PipelineCancelled}
    (error,) = jobs_until_error.errors  # type: ignore[attr-defined]
    assert len(error.exceptions) == 1

    gate = Gate()
    soon = map_runs(lambda number: function(gate) if number else command("false"), [1, 0], workers=2)
    assert not next(soon).ok
    gate.opened.set()
    assert next(soon).ok


def test_a_job_is_tried_again(tmp_path: Path) -> None:
    # Succeeds at the third attempt: each one adds a line.
    third = command("sh", "-c", 'echo >>"$1"; [ "$(wc -l <"$1")" = 3 ]', "sh", item)
    (job,) = third.map([tmp_path / "tries"], retries=5, backoff=0)
    assert (job.ok, job.attempt) == (True, 3)
    (job,) = third.map([tmp_path / "again"], retries=1, backoff=0, check=False)
    assert (job.ok, job.attempt) == (False, 2)


def test_only_errors_that_match_are_tried_again() -> None:
    options: dict[str, Any] = {"retries": 2, "backoff": 0, "check": False, "timeout": 0.05}
    asleep = command("sleep", item)
    assert [job.attempt for job in asleep.map([9], retry_if=is_error(PipelineTimeout), **options)] == [3]
    assert [job.attempt for job in asleep.map([9], retry_if=is_error(ValueError), **options)] == [1]


def test_a_matcher_that_raises_ends_the_map() -> None:
    def broken(_error: BaseException) -> bool:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        list(status.map([1, 0], retries=1, retry_if=broken))


def test_a_retry_waits_and_gives_its_worker_to_others() -> None:
    jobs = status.map([1, 0, 0], workers=1, retries=1, backoff=1000, check=False)
    assert [next(jobs).input, next(jobs).input] == [0, 0]
    jobs.close()


def test_a_job_that_waits_for_a_retry_is_given_up_when_the_map_halts() -> None:
    fails = command("sh", "-c", 'echo "$1"; exit 3', "sh", item)
    retry_if = is_error(penstock.ExitError)
    jobs = map_runs(
        lambda number: fails.replace(name="first") if number == 1 else command("/no/such"),
        [1, 2],
        workers=1,
        retries=1,
        backoff=1000,
        retry_if=lambda error: retry_if(error) and not isinstance(error, StartError),
        check=False,
    )
    assert sorted((job.input, job.attempt) for job in jobs) == [(1, 1), (2, 1)]


def test_the_timeout_is_for_each_attempt() -> None:
    (job,) = command("sleep", item).map([1000], timeout=0.05, check=False)
    assert isinstance(job.error, PipelineTimeout)


def test_limits_are_for_each_attempt() -> None:
    (job,) = command("sh", "-c", "ulimit -n", item).map([1], limits=Limits(open_files=17), collect="text")
    assert job.stdout == "17\n"


def test_close_ends_what_runs(tmp_path: Path) -> None:
    jobs = command("sh", "-c", 'echo $$ >"$1"; exec sleep 1000', "sh", item).map(
        itertools.chain(["/dev/null"], [tmp_path / "pid"]), workers=2, timeout=None
    )
    taker = threading.Thread(target=lambda: list(jobs))
    taker.start()
    until((tmp_path / "pid").exists)
    jobs.close()
    taker.join(20)
    assert not taker.is_alive()
    assert list(jobs) == []
    jobs.close()


def test_close_before_the_start_starts_nothing() -> None:
    jobs = echo.map([1])
    jobs.close()
    assert list(jobs) == []


def test_leaving_the_block_or_dropping_the_iterator_ends_the_map() -> None:
    for _ in range(3):
        with command("sleep", item).map(itertools.chain([0], itertools.repeat(1000)), workers=2) as jobs:
            assert next(jobs).ok
        dropped = command("sleep", item).map(itertools.chain([0], itertools.repeat(1000)), workers=2)
        assert next(dropped).ok
        del dropped  # the leak check finds the children otherwise


def test_close_does_not_wait_for_inputs_that_block() -> None:
    go_on = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        go_on.wait(20)
        yield 2

    jobs = command("true", item).map(numbers())
    assert next(jobs).ok
    jobs.close()
    assert list(jobs) == []
    go_on.set()


def test_cancel_all_ends_the_map() -> None:
    gate = Gate()
    jobs = function(gate).map(itertools.repeat(b""), workers=2, halt="never")
    taken: list[BaseException] = []

    def take() -> None:
        try:
            list(jobs)
        except MapError as error:
            taken.append(error)

    taker = threading.Thread(target=take)
    taker.start()
    until(lambda: gate.count == 2)
    penstock.cancel_all("over")
    gate.opened.set()
    taker.join(20)
    assert not taker.is_alive()
    assert isinstance(taken[0], MapError)


def test_several_threads_may_take_jobs() -> None:
    jobs = command("true", item).map(range(60), workers=2)
    taken: list[int] = []
    takers = [threading.Thread(target=lambda: taken.extend(job.index for job in jobs)) for _ in range(3)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(20)
    assert sorted(taken) == list(range(60))


def test_a_thousand_jobs() -> None:
    assert sum(job.ok for job in command("true", item).map(range(1000), workers=2)) == 1000


@pytest.mark.slow
def test_memory_stays_flat_over_many_jobs() -> None:
    jobs = map_lines(bytes.upper).map((b"line\n" for _ in range(20_000)), workers=2, collect="bytes")
    for _ in range(2000):
        next(jobs)
    tracemalloc.start()
    try:
        for _ in range(1000):
            next(jobs)
        before, _ = tracemalloc.get_traced_memory()
        for job in jobs:
            assert job.stdout == b"LINE\n"
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 1 << 20, (before, after, peak)


def test_outputs_are_whole_or_not_there(tmp_path: Path) -> None:
    half = command("sh", "-c", 'echo half; exit "$1"', "sh", item)
    jobs = list(half.map([0, 1], output=f"{tmp_path}/{{}}.txt", check=False, workers=1))
    assert [job.output for job in jobs] == [f"{tmp_path}/0.txt", f"{tmp_path}/1.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["0.txt"]
    assert (tmp_path / "0.txt").read_bytes() == b"half\n"


def test_an_output_may_be_a_placeholder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"b\na\n")
    (job,) = command("sort").map([tmp_path / "a.txt"], output=item.with_suffix(".sorted"))
    assert job.output is not None
    assert Path(job.output).read_bytes() == b"a\nb\n"


def test_two_inputs_with_one_output_are_a_mistake_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"input 0, 'a/x', and input 2, 'b/x', have the same output"):
        echo.map(["a/x", "a/y", "b/x"], output=f"{tmp_path}/{{name}}")
    jobs = echo.map(iter(["a/x", "a/y", "b/x"]), output=f"{tmp_path}/{{name}}")
    with pytest.raises(ValueError, match=r"input 0, and input 2, 'b/x', have the same output"):
        list(jobs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_the_pipelines_own_stdout_may_have_placeholders(tmp_path: Path) -> None:
    pipeline = command("echo", item["what"]).to(atomic(item["to"]))
    assert all(job.ok for job in pipeline.map([{"what": "x", "to": str(tmp_path / "x")}]))
    assert (tmp_path / "x").read_bytes() == b"x\n"


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": 1.5}, "workers must be a number"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"retry_if": ValueError}, "write is_error"),
        ({"backoff": -1}, "backoff must not be negative"),
        ({"timeout": -1}, "timeout must not be negative"),
        ({"halt": "later"}, "halt must be 'soon' or 'now' or 'never'"),
        ({"max_failures": 0}, "max_failures must be at least 1"),
        ({"max_failures": 1.0}, "a fraction between 0 and 1"),
        ({"collect": "lines"}, "collect must be"),
        ({"collect": "text", "output": "x"}, "collect and output"),
        ({"limits": 3}, "limits must be a Limits"),
        ({"output": "{stem"}, "brace"),
        ({"ordered": 1}, "ordered must be True or False"),
    ],
)
def test_mistakes_are_raised_by_the_call(mistake: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        echo.map([1], **mistake)


def test_inputs_must_be_several() -> None:
    for wrong in ("abc", b"abc", 3):
        with pytest.raises(TypeError, match="inputs must be an iterable"):
            echo.map(wrong)  # type: ignore[arg-type]


def test_an_async_stage_is_refused() -> None:
    async def stage(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        return

    with pytest.raises(TypeError, match="is async"):
        function(stage).map([b""])


def test_a_pipe_is_refused() -> None:
    (job,) = echo.replace(stdout=penstock.PIPE).map([1], check=False)
    assert "PIPE" in str(job.error)


def test_a_forked_copy_cannot_go_on() -> None:
    jobs = command("true", item).map(range(9), workers=2)
    next(jobs)
    pid = os.fork()
    if pid == 0:
        try:
            next(jobs)
        except RuntimeError:
            jobs.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(list(jobs)) == 8


def test_a_map_in_a_job_of_a_map() -> None:
    def inner(_ctx: object, _stdin: object, stdout: Any) -> None:
        for job in echo.map(range(3), collect="bytes", ordered=True):
            stdout.write(job.stdout)

    assert outputs(function(inner).map([b""] * 3, collect="bytes")) == [b"0\n1\n2\n"] * 3


def test_a_repr_says_how_far_it_is() -> None:
    jobs = echo.map(["a"], collect="text")
    assert repr(jobs) == "<Jobs of echo, not started>"
    (job,) = jobs
    assert repr(job) == "<Job 0, 'a', ok>"
    assert repr(jobs) == "<Jobs of echo, ended>"
