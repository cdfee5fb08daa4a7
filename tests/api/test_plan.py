"""`explain()`: how each edge would be carried, and that it is what then happens."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import os
import pickle
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    Pipeline,
    command,
    filter_error,
    function,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = command("cat")
FUNCTION = function(lambda _ctx, stdin, stdout: stdout.writelines(stdin.chunks()), name="copy")
STAGES = {"command": COMMAND, "function": FUNCTION}
KERNEL = {"splice", "sendfile", "copy-file-range", "pooled"}


def kinds(pipeline: Pipeline, **options: Any) -> list[str]:
    """Return the kinds of the edges as planned; run it, and see that it was so."""
    plan = pipeline.explain(**options)
    planned = [edge.kind for edge in plan.edges]
    if PIPE in options.values():
        with pipeline.start(**options) as run:
            if run.stdin is not None:
                run.stdin.close()
            if run.stdout is not None:
                run.stdout.read()
        result = run.wait()
    else:
        result = pipeline.run(**options)
    assert [edge.kind for edge in result.edges] == planned
    assert [edge.source for edge in result.edges] == list(plan.nodes[:-1])
    assert [edge.target for edge in result.edges] == list(plan.nodes[1:])
    return planned


@pytest.fixture
def things(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """All kinds of endpoints, open for reading and writing where that is possible."""
    with contextlib.ExitStack() as stack:
        path = tmp_path / "data"
        path.write_bytes(b"data\n")
        packed = tmp_path / "data.gz"
        packed.write_bytes(gzip.compress(b"data\n"))
        (tmp_path / "data.bz2").write_bytes(bz2.compress(b"data\n"))
        blocking, other = socket.socketpair()
        stack.enter_context(blocking)
        stack.enter_context(other)
        other.shutdown(socket.SHUT_WR)
        nonblocking, another = socket.socketpair()
        stack.enter_context(nonblocking)
        stack.enter_context(another)
        another.shutdown(socket.SHUT_WR)
        nonblocking.setblocking(False)  # noqa: FBT003
        reading, writing = os.pipe()
        os.close(writing)
        yield {
            "str": str(path),
            "path": path,
            "raw": stack.enter_context(path.open("r+b", buffering=0)),
            "buffered": stack.enter_context(path.open("r+b")),
            "text": stack.enter_context(path.open(encoding="utf-8")),
            "fd": stack.enter_context(path.open("r+b", buffering=0)).fileno(),
            "gzip": stack.enter_context(gzip.open(packed)),
            "bz2": stack.enter_context(bz2.open(tmp_path / "data.bz2")),
            "socket": blocking,
            "non-blocking": nonblocking,
            "pipe reader": stack.enter_context(open(reading, "rb")),  # noqa: PTH123
            "BytesIO": io.BytesIO(b"data\n"),
            "StringIO": io.StringIO("data\n"),
            "list": [b"data\n"],
            "generator": (chunk for chunk in [b"data\n"]),
        }


@pytest.mark.parametrize("thing", ["str", "path", "raw", "buffered", "text", "fd", "socket", "pipe reader"])
def test_a_real_descriptor_is_passed(things: dict[str, Any], thing: str) -> None:
    """To the child, or to the Python stage that reads or writes it itself."""
    assert kinds(COMMAND, stdin=things[thing], stdout=DEVNULL) == ["pass-fd", "discard"]
    if thing not in ("text", "pipe reader"):
        assert kinds(COMMAND, stdout=things[thing]) == ["discard", "pass-fd"]


@pytest.mark.parametrize("thing", ["gzip", "bz2", "BytesIO", "StringIO", "list", "generator"])
def test_an_object_is_copied_at_a_command_and_in_memory_at_a_python_stage(
    things: dict[str, Any], thing: str
) -> None:
    """Its fileno(), where it lends one, is not asked."""
    assert COMMAND.explain(stdin=things[thing]).edges[0].kind == "pooled"
    assert kinds(FUNCTION, stdin=things[thing], stdout=DEVNULL) == ["memory", "discard"]


def test_an_object_at_a_command_is_pooled(things: dict[str, Any]) -> None:
    """On either side, and it is what happens."""
    assert kinds(COMMAND, stdin=things["list"], stdout=things["BytesIO"]) == ["pooled", "pooled"]
    assert kinds(COMMAND, stdin=things["gzip"], stdout=things["StringIO"]) == ["pooled", "pooled"]
    assert kinds(FUNCTION, stdout=io.BytesIO()) == ["discard", "memory"]


def test_a_non_blocking_descriptor_is_never_passed(things: dict[str, Any]) -> None:
    """To a child that knows nothing of it."""
    for value in (things["non-blocking"], things["non-blocking"].fileno()):
        assert COMMAND.explain(stdin=value).edges[0].kind in KERNEL
        assert COMMAND.explain(stdout=value).edges[-1].kind in KERNEL


@pytest.mark.parametrize("stage", STAGES)
def test_the_specials_say_what_they_are(stage: str) -> None:
    """For a command and for a Python stage."""
    pipeline = STAGES[stage]
    assert kinds(pipeline, stdout=DEVNULL) == ["discard", "discard"]
    assert kinds(pipeline, stdout=CAPTURE) == ["discard", "capture"]
    assert kinds(pipeline, stdin=PIPE, stdout=PIPE) == ["os-pipe", "os-pipe"]
    assert [edge.kind for edge in pipeline.explain(stdin=INHERIT).edges] == ["inherit", "inherit"]
    assert [edge.kind for edge in pipeline.explain().edges] == ["discard", "inherit"]


@pytest.mark.parametrize("data", [b"", b"x", "x", b"x" * 200_000])
def test_input_is_pooled_at_a_command_and_memory_at_a_python_stage(data: Any) -> None:
    """Also where it is empty."""
    assert kinds(COMMAND, input=data, stdout=DEVNULL) == ["pooled", "discard"]
    assert kinds(FUNCTION, input=data, stdout=DEVNULL) == ["memory", "discard"]


def test_neighbours_are_joined_by_what_they_are() -> None:
    """A command on either side: a pipe; both Python: memory; transforms and line stages: fused."""
    lines = map_lines(bytes.upper)
    pipeline = (
        COMMAND | COMMAND | FUNCTION | FUNCTION | lines | lines | transform(lambda c: c) | FUNCTION | COMMAND
    )
    assert kinds(pipeline, stdout=DEVNULL) == [
        "discard",
        "os-pipe",
        "os-pipe",
        "memory",
        "memory",
        "fused",
        "fused",
        "memory",
        "os-pipe",
        "discard",
    ]


def test_nested_and_filtered_stages_are_seen_through() -> None:
    """The nodes are the leaf stages."""
    pipeline = Pipeline(FUNCTION, Pipeline(COMMAND, FUNCTION, name="nested")) | filter_error(
        FUNCTION, lambda e: e
    )
    assert pipeline.explain().nodes == ("stdin", "copy", "cat", "copy", "copy", "stdout")
    assert kinds(pipeline, stdout=DEVNULL) == ["discard", "os-pipe", "os-pipe", "memory", "discard"]


def test_the_empty_pipeline_has_a_plan() -> None:
    """One stage that copies."""
    assert len(Pipeline().explain().edges) == 2
    assert kinds(Pipeline(), input=b"x", stdout=CAPTURE) == ["memory", "capture"]


def test_a_source_at_the_head_discards_stdin() -> None:
    """It reads none."""
    assert kinds(source([b"x"]) | COMMAND, stdout=DEVNULL) == ["discard", "os-pipe", "discard"]


def test_options_of_the_pipeline_and_of_the_call_count(tmp_path: Path) -> None:
    """As in a run."""
    pipeline = Pipeline(COMMAND, stdout=CAPTURE, input=b"x")
    assert kinds(pipeline) == ["pooled", "capture"]
    assert kinds(pipeline, stdout=tmp_path / "out") == ["pooled", "pass-fd"]
    assert kinds(pipeline, stdin=DEVNULL) == ["discard", "capture"]


def test_a_plan_prints_as_a_table_and_compares() -> None:
    """One line for each edge."""
    plan = (COMMAND | FUNCTION).explain(stdout=CAPTURE)
    assert [line.split() for line in str(plan).splitlines()[1:]] == [
        ["stdin", "cat", "discard"],
        ["cat", "copy", "os-pipe"],
        ["copy", "stdout", "capture"],
    ]
    assert repr(plan).startswith("Plan(")
    assert plan.edges == (COMMAND | FUNCTION).explain(stdout=CAPTURE).edges
    assert len(set(plan.edges)) == 3


def test_a_plan_leaves_what_was_given_as_it_is(things: dict[str, Any]) -> None:
    """Nothing is read, opened, closed or moved."""
    for name, thing in things.items():
        COMMAND.explain(stdin=thing)
        if hasattr(thing, "tell") and name != "pipe reader":
            assert thing.tell() == 0
        assert getattr(thing, "closed", False) is False
    assert next(things["generator"]) == b"data\n"
    missing = Path("/no/such/folder/file")
    assert COMMAND.explain(stdout=missing).edges[-1].kind == "pass-fd"


def test_two_stages_of_one_name_are_two_nodes() -> None:
    """Nodes and edges have ids beside the names; a result has the same ones."""
    pipeline = COMMAND | COMMAND | FUNCTION
    plan = pipeline.explain(stdout=CAPTURE)
    assert [(node.id, node.name, node.kind) for node in plan.nodes] == [
        ("stdin", "stdin", "endpoint"),
        ("0", "cat", "command"),
        ("1", "cat", "command"),
        ("2", "copy", "function"),
        ("stdout", "stdout", "endpoint"),
    ]
    assert [(edge.source_id, edge.target_id) for edge in plan.edges] == [
        ("stdin", "0"),
        ("0", "1"),
        ("1", "2"),
        ("2", "stdout"),
    ]
    assert {(edge.port, edge.elastic) for edge in plan.edges} == {("main", False)}
    assert plan.edges[1].source == plan.edges[1].target == "cat"
    result = pipeline.run(stdout=CAPTURE)
    assert [stage.id for stage in result.stages] == [node.id for node in plan.nodes[1:-1]]
    assert [(edge.source_id, edge.target_id) for edge in result.edges] == [
        (edge.source_id, edge.target_id) for edge in plan.edges
    ]


def test_a_result_finds_a_stage_by_name() -> None:
    """A KeyError says which names there are, or that several stages have this one."""
    result = (COMMAND | COMMAND | FUNCTION).run(stdout=CAPTURE)
    assert result.stage("copy") is result.stages[2]
    with pytest.raises(KeyError, match="no stage is named 'sort'; there are 'cat', 'cat', 'copy'"):
        result.stage("sort")
    with pytest.raises(KeyError, match="2 stages are named 'cat'"):
        result.stage("cat")


def test_a_plan_can_be_pickled() -> None:
    """With the ids and kinds of its nodes."""
    plan = (COMMAND | FUNCTION).explain(stdout=CAPTURE)
    copied = pickle.loads(pickle.dumps(plan))
    assert (copied.nodes, copied.edges) == (plan.nodes, plan.edges)
    assert [(node.id, node.kind) for node in copied.nodes] == [(node.id, node.kind) for node in plan.nodes]
