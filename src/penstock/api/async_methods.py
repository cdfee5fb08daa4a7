"""The methods of a pipeline that run it in an event loop. Their modules are loaded by the first call."""

from __future__ import annotations

import codecs
from functools import cache, partial

from penstock.core.constants import CAPTURE
from penstock.core.errors import StartError
from penstock.core.options import check_ends, check_flag
from penstock.engine.graph import PipelineSpec
from penstock.engine.run_plan import plan_run
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any, Unpack

    from penstock.api.async_run import AsyncBytes, AsyncLines, StartingRun
    from penstock.core.options import Options
    from penstock.core.result import Result

__all__ = ["AsyncMethods"]


@cache
def owned_run() -> ModuleType:
    """Return the module of the methods that wait for the end of a run."""
    with late_import:
        from penstock.api import owned_run  # noqa: PLC0415 - only some users run in an event loop
    return owned_run


@cache
def async_run() -> ModuleType:
    """Return the module of the others. ImportError if there is no anyio."""
    owned_run().anyio_event()
    with late_import:
        from penstock.api import async_run  # noqa: PLC0415 - as above, and it needs anyio
    return async_run


class AsyncMethods(PipelineSpec):
    """The async half of `penstock.Pipeline`."""

    __slots__ = ()

    async def arun(self, check: bool = True, **options: Unpack[Options]) -> Result:  # noqa: FBT001, FBT002 - as `run`
        """Run the pipeline as `run` does, in an event loop of asyncio, uvloop or trio.

        Cancelling the task or cancel scope ends the run, and waits until its children are reaped. Raises
        ImportError if the run needs the extra `async` and it is not installed: under trio, and for async
        functions and streams.
        """
        merged = self._for_call(options)
        check_ends(merged, "arun")
        check_flag(check)
        result: Result = await self._load(owned_run).run_to_end(self, merged, check=check)
        return result

    async def aoutput(self, **options: Unpack[Options]) -> bytes:
        """Return the output as `output` does, in an event loop; see `arun` for cancellation."""
        check_ends(options, "aoutput", ("stdout",))
        merged = self._merged(options)
        merged["stdout"] = CAPTURE
        check_ends(merged, "aoutput")
        result: Result = await self._load(owned_run).run_to_end(self, merged, check=True)
        return b"" if result.stdout is None else result.stdout

    async def atext(self, encoding: str = "utf-8", errors: str = "strict", **options: Unpack[Options]) -> str:
        """Return the output decoded as `text` does, in an event loop; see `arun` for cancellation."""
        codecs.lookup(encoding)  # a LookupError before anything starts
        return (await self.aoutput(**options)).decode(encoding, errors)

    def aiter_bytes(self, **options: Unpack[Options]) -> AsyncBytes:
        """Return an async iterator over the output, in chunks as `iter_bytes` yields them.

        Closing the iterator early is not a failure. `aclose()`, or `async with` around the iteration, waits
        for the children. Dropping the iterator, as `break` out of an `async for` does, ends them without
        waiting. Cancelling the task while it waits for a chunk ends the run, as in `arun`.
        """
        check_ends(options, "aiter_bytes", ("stdout",))
        merged = self._for_call(options)
        check_ends(merged, "aiter_bytes")
        make_plan = partial(plan_run, self, merged, iterate=True)
        make_plan()  # an invalid option is an error of this call
        iterator: AsyncBytes = self._load(async_run).AsyncBytes(make_plan)
        return iterator

    def aiter_lines(self, **options: Unpack[Options]) -> AsyncLines:
        """Return an async iterator over the lines of the output, as `iter_lines` yields them."""
        lines: AsyncLines = self._load(async_run).AsyncLines(self.aiter_bytes(**options))
        return lines

    def astart(self, **options: Unpack[Options]) -> StartingRun:
        """Return an async context manager that starts the pipeline: `async with pipeline.astart() as run`.

        `run` is an `AsyncRun`. Leaving the block closes `run.stdin` and `run.stdout` and waits for the run.
        An exception in the block, including a cancellation, cancels the run first.
        """
        make_plan = partial(plan_run, self, self._for_call(options))
        make_plan()  # an invalid option is an error of this call
        starting: StartingRun = self._load(async_run).StartingRun(make_plan)
        return starting

    def _load(self, load: Callable[[], ModuleType]) -> ModuleType:
        """Return the module that `load()` imports. StartError if there is no descriptor to do that by."""
        try:
            return load()
        except OSError as error:
            raise StartError(self.graph.nodes[0].stage.name, error, index=0) from error

    def _for_call(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a run that a call starts with these."""
        raise NotImplementedError

    def _merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pipeline's options with those of a call laid over them, checked."""
        raise NotImplementedError
