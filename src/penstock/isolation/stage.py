"""A Python stage in a separate process with a GIL of its own: `isolate="process"`.

The inner stage is any Python stage, unchanged. At each start it is pickled into a job (`_job`), and a worker
process is taken for it. `isolation.running` sends the job, together with the file descriptors of the stage's
two streams, once all stages of the run have been started.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from penstock.core.public import exported
from penstock.core.requirements import Requirements, Stream
from penstock.core.secret import secrets_in_pickle, without_secret
from penstock.isolation import messages, worker_pool
from penstock.isolation.running import RunningIsolated
from penstock.stages.base import BuiltinStage
from penstock.stages.pipe_adapter import start_with_pipes
from penstock.system.executables import check_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from penstock.stages.branch import Branch, StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.function import PythonStage
    from penstock.stages.running import Running
    from penstock.streams.stage_ends import Input, Output

__all__ = ["Isolated"]


@exported
class Isolated(BuiltinStage):
    """A Python stage that runs in a worker process."""

    requirements = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)

    def __init__(self, inner: PythonStage) -> None:
        """Raise TypeError if the stage cannot be sent to another process."""
        self.inner = inner
        self.name = inner.name
        self.kind = inner.kind
        try:
            messages.dump(inner)
        except Exception as error:
            raise TypeError(
                f"stage {inner.name!r} cannot be sent to another process ({error}): with isolate='process' "
                f"its function must be defined at the top level of a module (no lambda, no nested function), "
                f"and everything that it is bound to must be picklable"
            ) from error

    def __repr__(self) -> str:
        return f"{self.inner!r} in a process"

    def take_ports(self, inlets: Mapping[str, Any], outlets: Mapping[str, Branch]) -> None:
        """Give it pipelines to read, and branches to write, besides its stdin and stdout."""
        self.inlets, self.outlets = inlets, outlets
        self.starts_in_graph = bool(inlets or outlets)

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> Running:
        """Run the stage in a worker process, an idle or a new one.

        RuntimeError if this is a worker process that is still importing the main module.
        """
        return self._start(None, ctx, stdin, stdout)

    def start_in_graph(self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts) -> Running:
        """Do the same with further ends."""
        try:
            for end in ports.outputs.values():
                end.open_devnull()
            return self._start(ports, ctx, stdin, stdout)
        except BaseException:
            ports.close()
            raise

    def _start(self, ports: StagePorts | None, ctx: StageContext, stdin: Input, stdout: Output) -> Running:
        copied = False
        try:
            if stdin.fd is None or stdout.fd is None:
                running = start_with_pipes(partial(self._start, ports), ctx, stdin, stdout)
                copied = True
                return running
            _check_main(self.name)
            _check_folder(ctx)
            stage, needs_main = messages.dump(self.inner)
            worker = worker_pool.acquire(ctx.spawned)
            try:
                job = _job(ctx, stage, needs_main)
                ends: list[Input | Output] = [stdin, stdout]
                if ports is not None:
                    job["ports"] = list(ports.inputs), list(ports.outputs)
                    ends += [*ports.inputs.values(), *ports.outputs.values()]
                return RunningIsolated(ctx, worker, ends, job)
            except BaseException:
                worker.terminate()
                raise
        except BaseException:
            if not copied:  # else the copies, which have only just started, close them
                stdin.close()
                stdout.close()
            raise


def _check_folder(ctx: StageContext) -> None:
    try:
        if ctx.cwd is not None:
            check_folder(ctx.cwd)
    except OSError as error:
        failed = without_secret(error, ctx.scope.cwd or "")
    else:
        return
    raise failed  # here, so that it has no context, which may tell a secret


def _check_main(name: str) -> None:
    if messages.main_is_loading:
        raise RuntimeError(
            f"stage {name!r} was started while the main module is being imported in a worker process: "
            "put the code that runs pipelines under `if __name__ == '__main__':`"
        )


def _job(ctx: StageContext, stage: bytes, needs_main: bool) -> dict[str, Any]:  # noqa: FBT001
    """Return everything that the worker needs for the stage."""
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib is dear to import
    except OSError:  # it has been deleted
        here = None
    state: dict[str, Any] = {
        "path": [entry if here is None else os.path.join(here, entry) for entry in _strings(sys.path)],  # noqa: PTH118
        "argv": _strings(sys.argv),
        "environ": dict(ctx.environ),
        "cwd": here if ctx.cwd is None else os.path.join(here or "", ctx.cwd),  # noqa: PTH118
    }
    if needs_main:
        state["main"] = messages.main_module()
    return {
        "host_state": state,
        "stage": stage,
        "secrets": secrets_in_pickle(stage),
        "name": ctx.name,
        "cwd": ctx.cwd,
        "deadline": ctx.deadline,
        "grace": ctx.grace,
        "ports": ((), ()),
    }


def _strings(things: list[Any]) -> list[str]:
    return [thing for thing in things if isinstance(thing, str)]
