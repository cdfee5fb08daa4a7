"""`Pipeline`: a value made of stages and options, and itself a stage."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    STDOUT,
    ExitError,
    Pipeline,
    PipelineError,
    Requirements,
    Stage,
    command,
    each_line,
    echo,
    filter_error,
    filter_lines,
    function,
    ignore_error,
    is_error,
    map_lines,
    source,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import Input, Output, StageContext

CAT = command("cat")
SHOW = command("sh", "-c", 'cat; printf "${PENSTOCK_TEST-unset} "')
FAIL = command("sh", "-c", "cat; exit 3", name="fail")


class Tag:
    """A custom stage that puts a tag behind what it reads."""

    requirements = Requirements()

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, ctx: StageContext, stdin: Input, stdout: Output) -> RunningTag:
        """Begin nothing yet; `wait` is called in a thread of its own."""
        return RunningTag(self.name, stdin, stdout)


class RunningTag:
    def __init__(self, tag: str, stdin: Input, stdout: Output) -> None:
        self.tag, self.stdin, self.stdout = tag, stdin, stdout

    def wait(self) -> None:
        """Do the work."""
        try:
            self.stdout.writer.write(self.stdin.reader.read() + self.tag.encode())
        finally:
            self.stdout.close()
            self.stdin.close()

    def kill(self, reason: BaseException) -> None:
        """Wake whoever reads or writes."""
        self.stdin.reader.interrupt(reason)
        self.stdout.writer.interrupt(reason)


def leaves(pipeline: Pipeline) -> list[str]:
    """Return the names of the leaf stages."""
    return list(pipeline.explain().nodes[1:-1])


# Joining.


def test_stages_join_to_a_pipeline_from_left_to_right() -> None:
    """However they are bracketed."""
    a, b, c = (map_lines(lambda line, tag=tag: line + tag, name=tag.decode()) for tag in (b"a", b"b", b"c"))  # type: ignore[misc]
    for pipeline in (
        a | b | c,
        (a | b) | c,
        a | (b | c),
        Pipeline(a, b, c),
        Pipeline(a | b, c),
        a.then(b, c),
    ):
        assert isinstance(pipeline, Pipeline)
        assert leaves(pipeline) == ["a", "b", "c"]
        assert repr(pipeline) == repr(Pipeline(a, b, c))
        assert pipeline.output(input=b"-") == b"-abc\n"


def test_only_a_pipeline_without_options_is_flattened() -> None:
    """So that its options hold for its own stages only."""
    nested = Pipeline(SHOW, SHOW, env={"PENSTOCK_TEST": "in"})
    for pipeline in (SHOW | nested | SHOW, Pipeline(SHOW, nested, SHOW), SHOW.then(nested, SHOW)):
        assert pipeline.output(env={"PENSTOCK_TEST": "out"}) == b"out in in out "
        assert leaves(pipeline) == ["sh"] * 4
        assert repr(pipeline).count("Pipeline(") == 2
        assert len(pipeline.run(stdout=DEVNULL).stages) == 4


def test_an_explicit_default_overrides_the_outer_pipeline() -> None:
    """What was given was meant."""
    noisy = command("sh", "-c", "cat; echo err >&2")
    result = Pipeline(noisy, Pipeline(noisy, stderr=CAPTURE), stderr=DEVNULL).run(stdout=DEVNULL)
    assert [stage.stderr for stage in result.stages] == [b"", b"err\n"]


def test_then_keeps_the_options_and_a_bar_does_not_spread_them() -> None:
    """`then` appends to the pipeline; `|` puts it beside another stage."""
    first = Pipeline(SHOW, env={"PENSTOCK_TEST": "set"}, name="mine")
    assert first.then(SHOW).output() == b"set set "
    assert first.then(SHOW).name == "mine"
    assert first.then(SHOW, SHOW).output() == b"set set set "
    assert first.then().output() == b"set "
    assert (first | SHOW).output(env={"PENSTOCK_TEST": "out"}) == b"set out "


def test_the_inner_option_wins_and_what_it_leaves_open_comes_from_outside() -> None:
    """At every depth."""
    inner = Pipeline(SHOW, timeout=60)
    middle = Pipeline(SHOW, inner, env={"PENSTOCK_TEST": "middle"})
    outer = Pipeline(SHOW, middle, env={"PENSTOCK_TEST": "outer"})
    assert outer.output() == b"outer middle middle "
    assert [stage.name for stage in outer.run(stdout=DEVNULL).stages] == ["sh"] * 3


def test_an_index_counts_leaf_stages() -> None:
    """Also of a failure within a nested pipeline."""
    pipeline = Pipeline(CAT, Pipeline(CAT, FAIL, name="nested"), CAT)
    with pytest.raises(PipelineError) as caught:
        pipeline.run(stdout=DEVNULL)
    assert (caught.value.index, caught.value.stage) == (2, "fail")


def test_then_ignoring_forgives_the_new_stages_only() -> None:
    """Each of them; what the matcher does not match is an error as before."""
    forgiving = CAT.then_ignoring(is_error(ExitError), FAIL, FAIL)
    assert forgiving.output(input=b"x") == b"x"
    assert FAIL.then_ignoring(is_error(ExitError), CAT).run(check=False, stdout=DEVNULL).error is not None
    assert CAT.then_ignoring(is_error(KeyError), FAIL).run(check=False, stdout=DEVNULL).error is not None
    assert Pipeline(CAT, name="mine").then_ignoring(is_error(ExitError), FAIL).name == "mine"
    assert CAT.then_ignoring(is_error(ExitError)).output(input=b"x") == b"x"


@pytest.mark.parametrize("wrong", [None, 5, "x"])
def test_then_ignoring_and_ignore_error_take_a_matcher(wrong: Any) -> None:
    """A TypeError when it is made."""
    with pytest.raises(TypeError, match="matcher"):
        CAT.then_ignoring(wrong, FAIL)
    with pytest.raises(TypeError, match="matcher"):
        ignore_error(CAT, wrong)
    with pytest.raises(TypeError, match="filter_error"):
        filter_error(CAT, wrong)


def test_ignore_error_may_stand_around_a_whole_pipeline() -> None:
    """And is a stage like any other."""
    forgiving = ignore_error(Pipeline(FAIL, FAIL, name="nested"), is_error(ExitError))
    assert (forgiving | CAT).output(input=b"x") == b"x"
    assert (CAT | forgiving).run(stdout=DEVNULL).returncodes == (0, 3, 3)


@pytest.mark.parametrize("wrong", [5, "cat", None, print, ["cat"], Tag, b"x", object()])
def test_only_stages_and_pipelines_can_be_joined(wrong: Any) -> None:
    """TypeError at once; for a bare function the message says what to do."""
    for join in (
        lambda: CAT | wrong,
        lambda: wrong | CAT,
        lambda: Pipeline(wrong),
        lambda: CAT.then(wrong),
        lambda: CAT.then_ignoring(is_error(KeyError), wrong),
        lambda: ignore_error(wrong, is_error(KeyError)),
    ):
        with pytest.raises(TypeError):
            join()
    hint: Any = wrong
    with pytest.raises(
        TypeError, match=r"not a stage or pipeline.*function\(\)" if callable(hint) else "not a stage"
    ):
        Pipeline(wrong)


def test_no_other_operator_is_overloaded() -> None:
    """No redirections by comparison."""
    stage: Any = CAT
    operations: list[Callable[[], object]] = [
        lambda: stage > "x",
        lambda: stage & stage,
        lambda: stage + stage,
        lambda: stage >> "x",
    ]
    for operation in operations:
        with pytest.raises(TypeError):
            operation()
    with pytest.raises(TypeError):
        stage["x"]


def test_custom_stages_join_on_either_side_of_a_bar() -> None:
    """With built-in stages and pipelines; two of them need a `Pipeline`."""
    assert isinstance(Tag("t"), Stage)
    assert (CAT | Tag("t")).output(input=b"-") == b"-t"
    assert (Tag("t") | CAT).output(input=b"-") == b"-t"
    assert (Tag("a") | CAT | Tag("b")).output(input=b"-") == b"-ab"
    assert Pipeline(Tag("a"), Tag("b")).output(input=b"-") == b"-ab"
    assert Pipeline(Tag("a")).then(Tag("b")).output() == b"ab"
    assert (Tag("a") | Pipeline(Tag("b"), Tag("c"), name="n")).output() == b"abc"
    result = (CAT | Tag("t")).run(stdout=DEVNULL)
    assert (result.stages[1].name, result.stages[1].returncode) == ("t", None)


# The empty pipeline.


def test_an_empty_pipeline_is_the_identity() -> None:
    """Alone, it copies; joined, it is nothing."""
    assert Pipeline().output(input=b"x") == b"x"
    assert Pipeline().output() == b""
    assert Pipeline().output(stdin=[b"a", b"", b"b"]) == b"ab"
    for pipeline in (
        Pipeline() | CAT,
        CAT | Pipeline(),
        Pipeline() | CAT | Pipeline(),
        Pipeline(Pipeline(), CAT),
    ):
        assert pipeline.output(input=b"x") == b"x"
        assert leaves(pipeline) == ["cat"]
    assert (Pipeline() | Pipeline()).output(input=b"x") == b"x"
    assert CAT.then().output(input=b"x") == b"x"


def test_an_empty_pipeline_with_options_is_a_stage_that_copies() -> None:
    """Between others, too."""
    assert (echo("a") | Pipeline(name="nothing") | CAT).output() == b"a\n"


# Nested streams.


NESTED: dict[str, Any] = {
    "pipelines": lambda inner: Pipeline(inner, CAT, timeout=60),
    "filters": lambda inner: ignore_error(inner, is_error(ExitError)),
    "plain ones do not count": lambda inner: Pipeline(inner, timeout=60) | CAT,
}


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED)
def test_pipelines_nest_a_hundred_deep_and_no_deeper(nest: Any) -> None:
    """As deep as that everything works; beyond it there is a clear error when the pipeline is made."""
    nested: Any = CAT
    for _ in range(98):
        nested = nest(nested)
    with pytest.raises(ValueError, match="nested 100 deep"):
        nest(nest(nest(nested)))
    assert nested.output(input="x") == b"x"
    assert nested.explain().nodes[0] == "stdin"
    assert repr(pickle.loads(pickle.dumps(nested.replace(timeout=60)))).startswith("Pipeline(")
    assert nested.name.startswith("cat")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("stdin", "/etc/hosts"),
        ("stdin", PIPE),
        ("stdin", INHERIT),
        ("stdin", [b"x"]),
        ("stdin", []),
        ("stdin", 0),
        ("stdin", DEVNULL),
        ("stdout", INHERIT),
        ("stdout", CAPTURE),
        ("stdout", DEVNULL),
        ("stdout", "/dev/null"),
        ("stdout", 1),
        ("input", "x"),
        ("input", b""),
    ],
)
def test_a_nested_pipeline_with_streams_of_its_own_is_a_value_error(option: str, value: Any) -> None:
    """In whichever way it is nested; and the message names the option."""
    given: dict[str, Any] = {option: value}
    nested = Pipeline(CAT, **given)
    nestings: list[Callable[[], object]] = [
        lambda: nested | CAT,
        lambda: CAT | nested,
        lambda: Pipeline(nested),
        lambda: Pipeline(CAT, nested),
        lambda: CAT.then(nested),
        lambda: CAT.then_ignoring(is_error(KeyError), nested),
        lambda: ignore_error(nested, is_error(KeyError)),
        lambda: Tag("t") | nested,
    ]
    for nest in nestings:
        with pytest.raises(ValueError, match=option):
            nest()


def test_then_keeps_the_streams_of_the_pipeline_itself() -> None:
    """Since it is not nested by that."""
    assert Pipeline(CAT, input=b"x").then(CAT).output() == b"x"


def test_a_nested_pipeline_may_have_a_stderr_of_its_own() -> None:
    """Stderr is none of the streams between stages."""
    noisy = command("sh", "-c", "cat; echo err >&2")
    result = Pipeline(noisy, Pipeline(noisy, stderr=DEVNULL), noisy).run(stdout=DEVNULL)
    assert [stage.stderr for stage in result.stages] == [b"err\n", b"", b"err\n"]
    assert (CAT | Pipeline(noisy, stderr=STDOUT)).output(input=b"x") == b"xerr\n"


# A value.


def test_every_method_that_changes_something_returns_another_pipeline() -> None:
    """The one that it is called on stays as it was."""
    stage = Pipeline(SHOW, name="mine")
    before = repr(stage)
    changed = [
        stage | CAT,
        stage.then(CAT),
        stage.then_ignoring(is_error(KeyError), CAT),
        stage.replace(env={"PENSTOCK_TEST": "x"}),
        stage.replace(name=None),
    ]
    assert repr(stage) == before
    assert all(repr(other) != before for other in changed)
    assert changed[3].output() == b"x "
    assert stage.output() == b"unset "


def test_a_pipeline_cannot_be_changed_in_place() -> None:
    """Neither its name nor its stages, nor by new attributes."""
    stage: Any = Pipeline(CAT, name="mine")
    for attribute in ("name", "stages", "options", "anything"):
        with pytest.raises(AttributeError):
            setattr(stage, attribute, None)


def test_changing_an_argument_later_does_not_change_the_pipeline() -> None:
    """Options are copied."""
    env: dict[str, str | None] = {"PENSTOCK_TEST": "then"}
    data = bytearray(b"then ")
    pipeline = Pipeline(SHOW, env=env, input=data)
    env["PENSTOCK_TEST"] = "now"
    data[:] = b"now  "
    assert pipeline.output() == b"then then "


def test_replace_puts_an_option_in_the_place_of_the_old_one() -> None:
    """A default takes it away; the others stay."""
    first = Pipeline(SHOW, env={"PENSTOCK_TEST": "a"}, name="n", timeout=60)
    assert first.replace(env={"OTHER": "b"}).output() == b"unset "
    assert first.replace(env=None).output() == b"unset "
    assert first.replace(timeout=None).output() == b"a "
    assert first.replace(timeout=None).name == "n"
    assert first.replace(name=None).name == "sh"
    assert first.replace().output() == b"a "
    assert Pipeline(CAT, input=b"x").replace(stdin=[b"y"]).output() == b"y"
    assert Pipeline(CAT, stdin=[b"y"]).replace(input=b"x").output() == b"x"
    assert Pipeline(CAT, input=b"x").replace(input=None).output() == b""


def test_a_call_s_options_hold_for_that_call() -> None:
    """And go before the pipeline's."""
    pipeline = Pipeline(SHOW, env={"PENSTOCK_TEST": "own"}, input=b"own ")
    assert pipeline.output(env={"PENSTOCK_TEST": "call"}) == b"own call "
    assert pipeline.output(input=b"call ") == b"call own "
    assert pipeline.output(input=b"") == b"own "
    assert pipeline.output(stdin=DEVNULL) == b"own "
    assert pipeline.output(stdin=[b"call "]) == b"call own "
    assert pipeline.output() == b"own own "


def test_the_name_is_its_own_or_those_of_its_stages() -> None:
    """As one would write it in a shell."""
    assert (CAT | CAT).name == "cat | cat"
    assert Pipeline(CAT, CAT, name="mine").name == "mine"


def test_the_repr_shows_stages_and_options() -> None:
    """A stage alone is shown as it was made."""
    assert repr(CAT) == "command('cat')"
    assert repr(CAT | CAT) == "Pipeline(command('cat'), command('cat'))"
    assert repr(Pipeline(CAT, timeout=5)) == "Pipeline(command('cat'), timeout=5.0)"
    assert repr(Pipeline()) == "Pipeline()"
    for stage in (
        echo("x"),
        source([b"x"]),
        function(print),
        map_lines(bytes.upper),
        filter_lines(bytes.isdigit),
    ):
        assert repr(stage)
        assert "object at" not in repr(stage)


def test_an_option_s_value_need_not_be_comparable() -> None:
    """Objects whose `==` is not a truth (an array's) or raises are values like others."""

    class Chunks:
        def __iter__(self) -> Any:
            return iter([b"x"])

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("do not compare me")

        __hash__ = None  # type: ignore[assignment]

    assert Pipeline(CAT, stdin=Chunks()).output() == b"x"
    assert CAT.replace(stdin=Chunks()).output() == b"x"
    assert CAT.output(stdin=Chunks()) == b"x"


# Pickling and copying.


def upper_all(lines: Any) -> Any:
    """Be importable, which a lambda is not."""
    return (line.upper() for line in lines)


PICKLABLE = Pipeline(
    echo("a\nb\n1"),
    command("cat", env={"A": "1"}),
    Pipeline(transform_lines(upper_all), map_lines(bytes.strip), name="nested"),
    filter_lines(bytes.isalpha),
    ignore_error(command("sh", "-c", "cat; exit 1"), is_error(ExitError)),
    timeout=60,
    stdout=CAPTURE,
)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pipeline_of_picklable_stages_can_be_pickled_and_run(protocol: int) -> None:
    """With its options; it looks the same, and does the same."""
    again = pickle.loads(pickle.dumps(PICKLABLE, protocol))
    assert repr(again) == repr(PICKLABLE)
    assert again.run().stdout == PICKLABLE.run().stdout == b"A\nB\n"


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_pipeline_can_be_copied(how: Any) -> None:
    """The specials among its options stay what they are."""
    assert how(PICKLABLE).run().stdout == b"A\nB\n"


def test_an_unpicklable_stage_is_an_error_of_pickle() -> None:
    """Which names it."""
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(map_lines(lambda line: line))


# Reuse.


def test_a_pipeline_can_be_run_again_and_in_many_threads_at_once() -> None:
    """No run knows of another."""
    pipeline = CAT | map_lines(bytes.upper) | CAT
    barrier = threading.Barrier(6)

    def run(number: int) -> bytes:
        barrier.wait(DEADLINE)
        return pipeline.output(input=b"run %d" % number)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [b"RUN %d\n" % number for number in range(6)]
    assert pipeline.output(input=b"x") == pipeline.output(input=b"x") == b"X\n"


def test_the_same_stage_may_stand_in_one_pipeline_twice() -> None:
    """It is a value; so is a nested pipeline."""
    double = each_line(lambda _ctx, line, stdout: stdout.write(line * 2))
    assert (double | double).output(input=b"a") == b"aaaa"
    nested = Pipeline(double, name="n")
    assert Pipeline(nested, nested, nested).output(input=b"a") == b"a" * 8
