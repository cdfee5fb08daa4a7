"""Hundreds of pipelines at once, ended in every way there is."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    DEVNULL,
    PIPE,
    ExitError,
    FinishEarly,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    function,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


PIPELINES = 300
THREADS = 30
DATA = b"line of text\n" * 4000


def _copy(_ctx: Any, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


def _early(_ctx: Any, stdin: Any, _stdout: Any) -> None:
    stdin.read(10)
    raise FinishEarly


def _middle(rng: random.Random) -> list[Pipeline]:
    choices: list[Callable[[], Pipeline]] = [
        lambda: command("cat"),
        lambda: function(_copy, name="copy"),
        lambda: transform(lambda chunks: chunks, name="transform"),
        lambda: map_lines(bytes.upper),
        lambda: Pipeline(command("cat"), function(_copy, name="copy"), name="nested"),
    ]
    return [rng.choice(choices)() for _ in range(rng.randrange(4))]


def _leaves(stages: list[Pipeline]) -> int:
    return sum(2 if stage.name == "nested" else 1 for stage in stages)


def _success(rng: random.Random) -> None:
    output = Pipeline(*_middle(rng), command("cat")).output(input=DATA)
    assert output.lower() == DATA


def _failure(rng: random.Random) -> None:
    before, after = _middle(rng), _middle(rng)
    code = rng.randrange(1, 100)
    failing = command("sh", "-c", f"head -c {rng.randrange(60000)} >/dev/null; exit {code}", name="failing")
    fail_fast = rng.random() < 0.5
    result = Pipeline(*before, failing, *after).run(
        input=DATA, stdout=DEVNULL, check=False, fail_fast=fail_fast
    )
    error = result.error
    assert isinstance(error, PipelineError)
    assert isinstance(error.cause, ExitError)
    assert (error.stage, error.index, error.cause.returncode) == ("failing", _leaves(before), code)


def _exception(rng: random.Random) -> None:
    mine = KeyError(rng.random())

    def fail(_ctx: Any, stdin: Any, _stdout: Any) -> None:
        stdin.read(100)
        raise mine

    before, after = _middle(rng), _middle(rng)
    result = Pipeline(*before, function(fail), *after).run(input=DATA, stdout=DEVNULL, check=False)
    assert result.error is not None
    assert result.error.cause is mine
    assert result.error.index == _leaves(before)


def _early_finish(rng: random.Random) -> None:
    producer = rng.choice([command("yes"), source(iter(lambda: DATA, None))])
    last = rng.choice([command("head", "-n", "1"), function(_early, name="early")])
    assert Pipeline(producer, *_middle(rng), last).run(stdout=DEVNULL).ok


def _left_iterator(rng: random.Random) -> None:
    lines = Pipeline(command("yes"), *_middle(rng)).iter_lines()
    assert next(lines).lower() == b"y"
    lines.close()


def _cancel(rng: random.Random) -> None:
    reason = KeyError(rng.random())
    run = Pipeline(command("sleep", "1000"), *_middle(rng)).start(stdout=DEVNULL)
    run.cancel(reason)
    error = run.wait(check=False).error
    assert isinstance(error, PipelineCancelled)
    assert error.cause is reason
    assert error.index is None


def _deadline(rng: random.Random) -> None:
    pipeline = Pipeline(command("sleep", "1000"), *_middle(rng))
    error = pipeline.run(stdout=DEVNULL, timeout=rng.random() / 20, check=False).error
    assert isinstance(error, PipelineTimeout)


def _start_failure(rng: random.Random) -> None:
    before = _middle(rng)
    error = Pipeline(*before, command("/no/such/program")).run(stdout=DEVNULL, check=False).error
    assert isinstance(error, StartError)
    assert error.index == _leaves(before)


def _dialogue(rng: random.Random) -> None:
    with Pipeline(*_middle(rng), command("cat")).start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"ping\n")
        assert run.stdout.readline().lower() == b"ping\n"


KINDS = [
    _success,
    _failure,
    _exception,
    _early_finish,
    _left_iterator,
    _cancel,
    _deadline,
    _start_failure,
    _dialogue,
]


def test_hundreds_of_pipelines_each_get_their_verdict_and_leak_nothing(within: Any) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    with within(15):
        with ThreadPoolExecutor(THREADS) as threads:
            tasks = {
                number: threads.submit(KINDS[number % len(KINDS)], random.Random(seed + number))
                for number in range(PIPELINES)
            }
        wrong = {number: task.exception() for number, task in tasks.items() if task.exception() is not None}
        assert wrong == {}, f"seed {seed}"
