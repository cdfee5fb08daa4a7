"""Write the report or the trace of a result to a file, which is there completely or as it was before."""

from __future__ import annotations

import contextlib
import json
import os

from penstock.profiling.page import page_of
from penstock.profiling.trace import trace_of
from penstock.system.atomic_file import AtomicFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.core.result import Result

__all__ = ["write_report", "write_trace"]


def write_report(result: Result, path: str) -> None:
    """Write the page to `path`. OSError if that fails."""
    _replace(path, page_of(result))


def write_trace(result: Result, path: str) -> None:
    """Write the trace to `path`. OSError if that fails; ValueError if the result has no profile."""
    _replace(path, json.dumps(trace_of(result), separators=(",", ":"), allow_nan=False) + "\n")


def _replace(path: str, text: str) -> None:
    files: list[AtomicFile] = []
    try:
        file = AtomicFile(path, files)
        with contextlib.closing(file.output):
            data = memoryview(text.encode())
            while data:
                data = data[os.write(file.output.fileno(), data) :]
        file.sync()
        file.commit()
    except BaseException:
        for file in files:
            file.discard()
        raise
