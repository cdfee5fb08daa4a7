"""The stages and exceptions in the messages between the host and a worker process.

`isolation.running` and `isolation.worker_main` make the messages: pickled tuples of plain values, `job` and
`cancel` to the worker, `event` and `done` back. A stage in a `job` and an exception in a `cancel` or `done`
are pickles of their own, made here.

Functions and classes are pickled by name, so a stage is checked when it is made. The worker gets the
program's `__main__` as with multiprocessing's spawn method. An exception is sent with its causes (matchers
look through them) and with its traceback as a note. Each that cannot be pickled, or whose pickle cannot be
loaded, is replaced by a `RemoteError`.

Pickling and loading run user code, so neither may happen in a thread that drives a reactor.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from itertools import pairwise
from types import FunctionType

from penstock.core.errors import RemoteError, text_of
from penstock.core.placeholders import masked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["decode_error", "dump", "dumps_or_repr", "encode_error", "load", "main_is_loading", "main_module"]

_MAX_CAUSES = 20
"""Exceptions of a chain of causes that are sent."""
main_is_loading = False
"""In a worker: whether it is importing the host's main module, which must not start further workers."""
_MAIN_COPY = "__mp_main__"
"""multiprocessing's name for the program's main module in its child processes."""


class _Pickler(pickle.Pickler):
    """Records whether anything that it pickles is defined in the main module."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.needs_main = False

    def reducer_override(self, obj: Any) -> Any:
        """Look at each function and class; pickle it as usual."""
        if isinstance(obj, FunctionType | type) and obj.__module__ in ("__main__", _MAIN_COPY):
            self.needs_main = True
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Finds in the program's main module objects that a worker knows by another module name."""

    def find_class(self, module: str, name: str) -> Any:
        """Find it."""
        if module == _MAIN_COPY and _MAIN_COPY not in sys.modules:
            module = "__main__"
        return super().find_class(module, name)


def dump(thing: object) -> tuple[bytes, bool]:
    """Return the pickle of a stage, and whether loading it needs the main module.

    Raises the error of pickling, and PicklingError if the main module is not a file that another process
    could import.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(thing)
    if pickler.needs_main and main_module() is None and not main_is_loading:
        raise pickle.PicklingError("it is defined in an interactive session, not in a module")
    return file.getvalue(), pickler.needs_main


def load(data: bytes) -> Any:
    """Load a pickle of this program or of one of its workers."""
    return _Unpickler(io.BytesIO(data)).load()


def main_module() -> tuple[str, str] | None:
    """Return how another process can import the main module, as `multiprocessing.spawn.prepare` takes it.

    (`get_preparation_data` there would fix the host's start method for good, which is the host's decision.)
    """
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return "init_main_from_name", name
    path = getattr(main, "__file__", None)
    return None if path is None else ("init_main_from_path", os.path.abspath(path))  # noqa: PTH100 - pathlib is dear to import


def encode_error(error: BaseException, *, with_traceback: bool = True) -> bytes:
    """Return an exception, its causes and its traceback as bytes."""
    chain: list[tuple[bytes | None, str, str]] = []
    text = _traceback_of(error) if with_traceback else ""
    link: BaseException | None = error
    while link is not None and len(chain) < _MAX_CAUSES:
        kind = type(link)
        chain.append((_pickled(link), f"{kind.__module__}.{kind.__qualname__}", text_of(link)))
        link = link.__cause__
    return pickle.dumps((os.getpid(), chain, text))


def _traceback_of(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - a fifth of a worker's start, and only failures need it

    return "".join(traceback.format_exception(error))


def decode_error(data: bytes) -> BaseException:
    """Return the exception with its causes, and the traceback as a note."""
    pid, chain, text = pickle.loads(data)  # noqa: S301 - bytes and str, made by `encode_error`
    errors = [_loaded(*link) for link in chain]
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    if text:
        errors[0].add_note(masked(f"raised in worker process {pid}:\n{text.rstrip()}"))
    return errors[0]


def _pickled(error: BaseException) -> bytes | None:
    """Return its pickle, if that can be loaded: the `__init__` of many classes takes more than `args`."""
    try:
        data = pickle.dumps(error)
        if isinstance(load(data), BaseException):
            return data
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return None
    return None


def _loaded(data: bytes | None, kind: str, text: str) -> BaseException:
    if data is not None:
        try:
            error = load(data)
        except Exception:  # noqa: BLE001 - as above; a module may be missing here
            return RemoteError(kind, text)
        if isinstance(error, BaseException):
            return error
    return RemoteError(kind, text)


def dumps_or_repr(thing: Any, fallback: Callable[[Any], Any]) -> bytes:
    """Return the pickle of a thing, or else of `fallback(thing)`."""
    try:
        return pickle.dumps(thing)
    except Exception:  # noqa: BLE001 - as above
        return pickle.dumps(fallback(thing))
