"""The event loops of the host program: asyncio's (uvloop's too) and trio's.

Only this module asks which of them is running; `running_loop` asks whether any is. The engine needs little
of a loop: to call a function in its thread from any other thread, and to run a coroutine that belongs to no
task group. There is one `Loop` object for each event loop; `current_loop()` returns it.

anyio says which loop is running. As long as the program has imported neither anyio nor trio, it can only be
asyncio's, so asyncio is asked, and anyio need not be imported.

Calls are queued in batches: many runs may end at once, and waking a loop costs a system call. `call` appends
and then checks whether a drain is due. The drain clears that mark before it reads the queue, so one of the
two sees the other. No lock is held, so the garbage collector and signal handlers may call.

A loop may be closed at any time. It is referenced weakly, so that we do not keep an unused loop alive. `call`
returns False if the loop can no longer take calls.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from collections import deque
from functools import partial
from weakref import WeakKeyDictionary, ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["Loop", "current_loop", "only_asyncio", "require_anyio", "threads_context"]


class Loop:
    """One event loop, seen from any thread."""

    def __init__(self, native: Any) -> None:
        self._native = ref(native)
        self._thread = threading.get_ident()
        self._asyncio = hasattr(native, "call_soon_threadsafe")
        # A callback of asyncio runs in no task, so anyio would not know which library this is.
        self._context = contextvars.Context()
        self._library = "asyncio" if self._asyncio else "trio"
        self._known = self._context.run(_set_library, self._library)
        self._queue: deque[Callable[[], object]] = deque()
        self._due = False
        self._tasks: set[Any] = set()

    @property
    def here(self) -> bool:
        """Whether the calling thread is the loop's own."""
        return self._thread == threading.get_ident()

    @property
    def closed(self) -> bool:
        """Whether it is known to be closed, from any thread. A trio loop tells only when it is called."""
        native = self._native()
        return native is None or (self._asyncio and bool(native.is_closed()))

    def enter(self) -> None:
        """Note that it runs in the calling thread."""
        self._thread = threading.get_ident()

    @property
    def current(self) -> bool:
        """Whether it is the loop that runs in the calling thread."""
        return self._native() is _running()

    def check(self, what: str) -> None:
        """Raise RuntimeError if this is not the loop that runs in the calling thread."""
        if not self.current:
            raise RuntimeError(
                f"{what} belongs to another event loop than the one that is running; "
                "use it in the loop that started it"
            )

    def call(self, callback: Callable[[], object]) -> bool:
        """Call `callback()` in the loop's thread soon; False if the loop is closed. From any thread.

        It is called once more if it raises.
        """
        self._queue.append(callback)
        native = self._native()
        if native is not None and not (self._asyncio and native.is_closed()):
            if self._due:
                return True
            self._due = True
            try:
                if self._asyncio:
                    native.call_soon_threadsafe(self._drain, context=self._context)
                else:
                    native.run_sync_soon(self._drain)
            except RuntimeError:  # closed just now; trio raises a subclass
                pass
            else:
                return True
        self._due = False
        self._queue.clear()
        return False

    def spawn(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        context: contextvars.Context,
        on_fault: Callable[[BaseException], object],
    ) -> None:
        """Run `work()` in `context`, as a task outside any task group. In the loop's thread.

        `work` must raise nothing but the loop's own cancellation; `on_fault(error)` gets anything else.
        """
        native = self._native()
        if self._asyncio and native is not None:
            task = native.create_task(work(), context=context)
            self._tasks.add(task)  # asyncio keeps only weak references to its tasks
            task.add_done_callback(partial(self._ended, on_fault))
        else:
            import trio  # noqa: PLC0415 - it is trio that called us

            async def guarded() -> None:
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - trio would end the whole program with it
                    on_fault(error)

            trio.lowlevel.spawn_system_task(guarded, context=context)

    def _ended(self, on_fault: Callable[[BaseException], object], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            on_fault(error)

    def _drain(self) -> None:
        self._due = False
        if not self._known and self._asyncio:  # the program may have imported anyio since
            self._known = _set_library(self._library)
        while True:
            try:
                callback = self._queue.popleft()
            except IndexError:  # another drain may have emptied it
                return
            try:
                callback()
            except Exception:  # noqa: BLE001 - for want of memory, say; each of them may be repeated
                callback()


_loops: WeakKeyDictionary[object, Loop] = WeakKeyDictionary()


def current_loop() -> Loop:
    """Return the loop that runs in this thread.

    Raises RuntimeError if there is none, and ImportError if only anyio can tell and it is not installed.
    """
    native = _running()
    loop = _loops.get(native)
    if loop is None:
        loop = _loops[native] = Loop(native)
    loop.enter()
    return loop


def threads_context() -> contextvars.Context:
    """Return a copy of the caller's context for code in another thread, in which no event loop runs."""
    context = contextvars.copy_context()
    context.run(_set_library, None)
    return context


def only_asyncio() -> bool:
    """Whether asyncio's loop runs in this thread, in a program that has imported neither anyio nor trio.

    Then no cancel scope of anyio is around the calling task, and none will be before the task goes on.
    """
    return _asyncio_loop() is not None


def require_anyio() -> None:
    """Import anyio. Raises ImportError, which says what to install, if it is missing."""
    try:
        import anyio  # noqa: F401, PLC0415 - only some users have it
    except ModuleNotFoundError as missing:
        if missing.name != "anyio":
            raise
        raise ImportError(
            "the async methods need anyio: pip install 'penstock[async]'", name="anyio"
        ) from missing


def _running() -> object:
    """Return the native loop of this thread, or what identifies it."""
    loop = _asyncio_loop()
    if loop is not None:
        return loop
    require_anyio()
    from anyio.lowlevel import current_token  # noqa: PLC0415 - as said above

    return current_token().native_token


def _asyncio_loop() -> object:
    """Return asyncio's running loop, or None if there is none, or if another library may have a say."""
    modules = sys.modules
    asyncio = modules.get("asyncio")
    if asyncio is None or modules.get("anyio") is not None or modules.get("trio") is not None:
        return None
    return asyncio._get_running_loop()  # noqa: SLF001 - in `__all__` of asyncio, for such callers


def _set_library(name: str | None) -> bool:
    """Set the library of the current context, for a version of anyio that asks sniffio.

    Returns False if sniffio is not loaded.
    """
    sniffio = sys.modules.get("sniffio")
    if sniffio is None:
        return False
    with contextlib.suppress(AttributeError):  # another thread is importing it
        sniffio.current_async_library_cvar.set(name)
        return True
    return False
