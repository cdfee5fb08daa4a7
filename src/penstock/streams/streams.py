"""The streams that stages read and write, by name; each is made in the module that says how it works."""

from __future__ import annotations

from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.reader import BytesReader, Reader
from penstock.streams.writer import CaptureWriter, NullWriter, Writer

__all__ = ["BytesReader", "CaptureWriter", "FdReader", "FdWriter", "NullWriter", "Reader", "Writer"]
