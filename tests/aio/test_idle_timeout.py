"""`idle_timeout` in an event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from penstock import CAPTURE, DEVNULL, PIPE, PipelineTimeout, command, function, map_lines

if TYPE_CHECKING:
    from pathlib import Path

    from penstock import Pipeline

IDLE = 0.3
SILENT = command("sh", "-c", "echo begun; exec sleep 1000")
TALKING = command("sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")


async def _fall_silent(_ctx: object, _stdin: Any, stdout: Any) -> None:
    await stdout.send(b"begun\n")
    await anyio.sleep_forever()


class Sink:
    """An async stream that takes its time."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.taken = b""

    async def send(self, data: bytes) -> None:
        """Take it."""
        await anyio.sleep(self.seconds)
        self.taken += data


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


async def _run(pipeline: Pipeline, way: str, path: Path, **options: Any) -> bytes:
    taken = b""
    if way == "aoutput":
        return await pipeline.aoutput(**options)
    if way == "aiter":
        async for line in pipeline.aiter_bytes(**options):
            taken += line
    elif way == "pipe":
        async with pipeline.astart(stdout=PIPE, **options) as run:
            assert run.stdout is not None
            async for chunk in run.stdout:
                taken += chunk
    else:
        sink = Sink()
        stdouts: dict[str, Any] = {"capture": CAPTURE, "devnull": DEVNULL, "path": path, "object": sink}
        result = await pipeline.arun(stdout=stdouts[way], **options)
        return result.stdout or sink.taken or _content(path)
    return taken


WAYS = ["aoutput", "aiter", "pipe", "capture", "devnull", "path", "object"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "pipeline",
    [
        pytest.param(SILENT, id="command"),
        pytest.param(SILENT | map_lines(bytes), id="line function"),
        pytest.param(function(_fall_silent), id="coroutine"),
    ],
)
async def test_a_run_that_falls_silent_ends(
    pipeline: Pipeline, way: str, tmp_path: Path, within: Any
) -> None:
    """Whatever takes its output, and whatever its last stage is."""
    with within(5), pytest.raises(PipelineTimeout, match=r"no output for 0\.3 s"):
        await _run(pipeline, way, tmp_path / "x", idle_timeout=IDLE)


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_that_goes_on_writing_succeeds(way: str, tmp_path: Path) -> None:
    """However long it takes."""
    expected = b"" if way == "devnull" else b"1\n2\n3\n4\n5\n6\n"
    assert await _run(TALKING, way, tmp_path / "x", idle_timeout=2 * IDLE) == expected


async def test_a_slow_reader_counts_no_time() -> None:
    """Neither a task that works on a chunk, nor one that is not there yet, nor a slow object."""
    pipeline = command("sh", "-c", "echo 1; sleep 0.1; echo 2")
    async for _ in pipeline.aiter_lines(idle_timeout=IDLE):
        await anyio.sleep(2 * IDLE)
    async with pipeline.astart(stdout=PIPE, idle_timeout=IDLE) as run:
        await anyio.sleep(3 * IDLE)
        assert run.stdout is not None
        assert b"".join([chunk async for chunk in run.stdout]) == b"1\n2\n"
    sink = Sink(2 * IDLE)
    await pipeline.arun(stdout=sink, idle_timeout=IDLE)
    assert sink.taken == b"1\n2\n"


@pytest.mark.parametrize("way", ["aiter", "pipe", "object"])
async def test_a_busy_loop_counts_no_time(way: str, tmp_path: Path) -> None:
    """Bytes are there, and no task has its turn to take them."""
    blocked = []

    async def block() -> None:
        await anyio.sleep(0.15)
        time.sleep(3 * IDLE)  # noqa: ASYNC251 - the fault that is shown
        blocked.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(block)
        assert await _run(TALKING, way, tmp_path / "x", idle_timeout=IDLE) == b"1\n2\n3\n4\n5\n6\n"
    assert blocked


async def test_the_end_of_the_output_is_not_the_end_of_the_time() -> None:
    """A run that has closed its stdout and goes on writes nothing either."""
    pipeline = command("sh", "-c", "echo begun; exec >&-; exec sleep 1000")
    for way in ("aoutput", "aiter", "pipe"):
        with pytest.raises(PipelineTimeout, match="no output"):
            await _run(pipeline, way, None, idle_timeout=IDLE)  # type: ignore[arg-type]
