"""The streams and copies that ports are made of, together, so that an endpoint loads them by one late import.

A run of commands alone needs none of them, unless one of its ends is copied. An endpoint loads them before
it opens anything, and all endpoints are opened before anything is started. So if they cannot be loaded,
nothing has been started.

Out of scope: any code.
"""

from penstock.runtime.copy_tasks import Drainer, Feeder, Relay
from penstock.runtime.late_calls import ReactorCalls
from penstock.streams.clocked_writer import ClockedWriter
from penstock.streams.copy_methods import best_method, best_method_to_path
from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.fifo_streams import FifoReader, FifoWriter
from penstock.streams.file_objects import pipe_reader
from penstock.streams.memory_pipe import MemoryPipe
from penstock.streams.pipe_writer import PipeWriter
from penstock.streams.reader import BytesReader
from penstock.streams.transfer import Transfer
from penstock.streams.writer import CaptureWriter, NullWriter

__all__ = [
    "BytesReader",
    "CaptureWriter",
    "ClockedWriter",
    "Drainer",
    "FdReader",
    "FdWriter",
    "Feeder",
    "FifoReader",
    "FifoWriter",
    "MemoryPipe",
    "NullWriter",
    "PipeWriter",
    "ReactorCalls",
    "Relay",
    "Transfer",
    "best_method",
    "best_method_to_path",
    "pipe_reader",
]
