"""The bytes that io's own readers hold back: looked up and taken without a read, and given back.

A buffered reader over a pipe reads more than it was asked for, and a text layer decodes more. These bytes
come first in a stage's stdin. Only the object knows them, and its methods go on to read its descriptor, which
may block: for ever, and with the object's lock, which `close()` and the interpreter's end need.

So the descriptor is hidden for the moment of the call. A buffered reader calls `readinto` and `readall` of
its raw file by name, and a text layer `read1` of its buffer, so an attribute of the instance comes before
the method. Such a `_Detour` says "no bytes now" or "end" to the calling thread, and lets other threads pass.
Thus `peek()` answers from the buffer alone, and `read()` empties it. A decoder keeps the first bytes of a
character that is not complete. The layer does not show its decoder, but `gc.get_referents` does.

Bytes are given back the other way: a `_Pushback` on the raw file delivers them before the descriptor's bytes,
and then removes itself. The reader cannot tell the difference, and neither can the text layer above it. So
the bytes of a text layer are moved there too before a look, because its characters cannot be looked up
without being taken. Moving them is exact if encoding the characters yields the bytes that they were decoded
from. If it does not, as in the middle of UTF-16 (`recodes`), the stream is decoded and encoded from there on.

All of this waits for the object's lock if another thread is in a method of the object. So it is called where
a wait has an end (`runtime.timed_call`). Out of scope: regular files, which have a position
(`streams.endpoints`), and every class that is not exactly one of io's own.
"""

from __future__ import annotations

import codecs
import gc
import io
import os
import stat
from functools import partial
from threading import get_ident
from weakref import ref

from penstock.core.loaded import is_exactly
from penstock.streams.reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from _typeshed import WriteableBuffer

__all__ = ["ReadAhead", "RecodingReader", "read_ahead_of"]

_RAW_METHODS = ("readinto", "readall", "read")
_EVERYTHING = 1 << 30
"""Characters to ask a text layer for: more than it can hold."""

# Encodings in which the bytes of a character depend on nothing before it.
_STATELESS = ("utf-8", "ascii", "iso8859", "cp", "koi8", "mac-", "gb", "big5", "euc", "shift_jis", "johab")


def read_ahead_of(value: Any) -> ReadAhead | None:
    """Return the layers of one of io's own readers over something that may block, or None.

    These are exactly FileIO, or the raw file of a plain socket; BufferedReader over it; TextIOWrapper over
    that. A raw file alone is one only while it has bytes that were given back. Raises ValueError if a layer
    was detached.
    """
    text = buffered = None
    if type(value) is io.TextIOWrapper:
        text, value = value, value.buffer
    if type(value) is io.BufferedReader:
        buffered, value = value, value.raw
    elif text is not None:
        return None
    if text is not None and _decoder_of(text) is None:
        return None
    if not _is_raw(value) or (buffered is None and _pushback_of(value) is None):
        return None
    if buffered is not None and stat.S_ISREG(os.fstat(value.fileno()).st_mode):
        return None
    return ReadAhead(text, buffered, value)


def _is_raw(value: Any) -> bool:
    if type(value) is io.FileIO:
        return True
    return is_exactly(value, "socket", "SocketIO") and is_exactly(
        getattr(value, "_sock", None), "socket", "socket"
    )


class ReadAhead:
    """The caller's reader: `text` over `buffered` over `raw`; the upper layers may be None."""

    __slots__ = ("_buffered", "_decoder", "_raw", "_text")

    def __init__(self, text: io.TextIOWrapper | None, buffered: io.BufferedReader | None, raw: Any) -> None:
        self._text = text
        self._buffered = buffered
        self._raw = raw
        self._decoder: Any = None if text is None else _decoder_of(text)

    @property
    def recodes(self) -> bool:
        """Whether the rest must be decoded and encoded: the decoder is in the middle of something."""
        text = self._text
        return (
            text is not None and self._decoder.getstate() != self._fresh_state() and not _is_stateless(text)
        )

    def fileno(self) -> int:
        """Return the descriptor's number."""
        return int(self._raw.fileno())

    def holds_bytes(self) -> bool:
        """Return whether bytes were read ahead. They stay in the object."""
        if self.recodes:
            return True
        self._settle_text()
        return _pushback_of(self._raw) is not None or bool(self._peek())

    def take(self) -> bytes:
        """Return all the bytes that were read ahead, which the object forgets. Not if it `recodes`."""
        self._settle_text()
        return self._take_buffered() + _take_pushback(self._raw)

    def give_back(self, data: bytes) -> None:
        """Have the object read these bytes next. Takes no lock, and blocks nowhere."""
        if data:
            _Pushback(self._raw, data + _take_pushback(self._raw))

    def take_text(self) -> tuple[str, bytes]:
        """Return what the object has read ahead, decoded and not, if it `recodes`. The object forgets it."""
        state = self._decoder.getstate()
        self._decoder.setstate(self._fresh_state())
        try:
            characters = self._take_characters()
        finally:
            self._decoder.setstate(state)
        return characters, self._take_buffered() + _take_pushback(self._raw)

    def recoded(self, held: tuple[str, bytes], reader: Reader) -> RecodingReader:
        """Return a reader of what `take_text` returned, and then of `reader`, in the encoding of the text."""
        assert self._text is not None
        return RecodingReader(self._text, self._decoder, held, reader)

    def _settle_text(self) -> None:
        """Move what the text layer holds, and what is below it, to the raw file."""
        text, decoder = self._text, self._decoder
        if text is None or self.recodes:
            return
        held, flags = decoder.getstate()
        carriage_return = ""
        if isinstance(decoder, io.IncrementalNewlineDecoder) and flags & 1:
            carriage_return, flags = "\r", flags - 1
        decoder.setstate((b"", flags))
        characters = self._take_characters()
        newline = text.newlines
        if newline in ("\r\n", "\r") and "\r" not in characters:  # each of them was one
            characters = characters.replace("\n", str(newline))
        if held or carriage_return or characters:
            encoding = codecs.lookup(text.encoding).name.removesuffix("-sig")
            data = (characters + carriage_return).encode(encoding, text.errors or "strict") + held
            self.give_back(data + self._take_buffered())

    def _take_characters(self) -> str:
        """Return the decoded characters. The decoder must hold nothing: it gets the end."""
        assert self._text is not None
        with _Detour(self._buffered, b"", "read1", "read"):
            return io.TextIOWrapper.read(self._text, _EVERYTHING)

    def _take_buffered(self) -> bytes:
        """Return what is in the buffer, and empty it."""
        if self._buffered is None:
            return b""
        with _Detour(self._raw, b"", "readall"):
            return io.BufferedReader.read(self._buffered) or b""

    def _peek(self) -> bytes:
        if self._buffered is None:
            return b""
        with _Detour(self._raw, None, "readinto"):
            return io.BufferedReader.peek(self._buffered)

    def _fresh_state(self) -> tuple[bytes, int]:
        """Return the state of a decoder like this one that has decoded nothing."""
        text = self._text
        assert text is not None
        decoder: Any = codecs.getincrementaldecoder(text.encoding)(text.errors or "strict")
        if isinstance(self._decoder, io.IncrementalNewlineDecoder):
            decoder = io.IncrementalNewlineDecoder(decoder, translate=False)
        state: tuple[bytes, int] = decoder.getstate()
        return state


class _Detour:
    """Has this thread, and no other, get `answer` from methods of an object of io for the time of a block."""

    __slots__ = ("_answer", "_before", "_names", "_owner", "_thread")

    def __init__(self, owner: Any, answer: Any, *names: str) -> None:
        self._owner = owner
        self._answer = answer
        self._names = names
        self._before = {name: owner.__dict__[name] for name in names if name in owner.__dict__}
        self._thread = get_ident()

    def __enter__(self) -> None:
        try:
            for name in self._names:
                setattr(self._owner, name, self._method(name))
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._restore()
        except BaseException:  # an interrupt
            self._restore()
            raise

    def _restore(self) -> None:
        for name in self._names:
            if name in self._before:
                setattr(self._owner, name, self._before[name])
            else:
                self._owner.__dict__.pop(name, None)

    def _method(self, name: str) -> Callable[..., Any]:
        thread, answer = self._thread, self._answer
        method = self._before.get(name) or partial(getattr(type(self._owner), name), self._owner)

        def detour(*arguments: Any) -> Any:
            return answer if get_ident() == thread else method(*arguments)

        return detour


class _Pushback:
    """Bytes that a raw file delivers before it reads its descriptor again."""

    __slots__ = ("_raw", "data")

    def __init__(self, raw: Any, data: bytes) -> None:
        self._raw = ref(raw)  # a file that nobody closes is to be closed by its last reference
        self.data = data
        try:
            self._install(raw)
        except BaseException:  # an interrupt
            self._install(raw)
            raise

    def _install(self, raw: Any) -> None:
        for name in _RAW_METHODS:
            setattr(raw, name, getattr(self, name))

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        """Deliver into a buffer."""
        part = self._next(memoryview(buffer).nbytes)
        if not part:
            raw = self._raw()
            return 0 if raw is None else type(raw).readinto(raw, buffer)
        with memoryview(buffer) as view, view.cast("B") as flat:
            flat[: len(part)] = part
        return len(part)

    def readall(self) -> bytes | None:
        """Deliver everything, and the rest of the file."""
        part, raw = self._next(len(self.data)), self._raw()
        rest = None if raw is None else type(raw).readall(raw)
        return rest if not part else part + (rest or b"")

    def read(self, size: int | None = -1, /) -> bytes | None:
        """Deliver some bytes."""
        if size is None or size < 0:
            return self.readall()
        part, raw = self._next(size), self._raw()
        return part if part or not size or raw is None else type(raw).read(raw, size)

    def _next(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        raw = self._raw()
        if not self.data and raw is not None:
            self.remove(raw)
        return part

    def remove(self, raw: Any) -> None:
        """Let the raw file read its descriptor again."""
        for name in _RAW_METHODS:
            raw.__dict__.pop(name, None)


def _pushback_of(raw: Any) -> _Pushback | None:
    found = getattr(raw.__dict__.get("readall"), "__self__", None)
    return found if isinstance(found, _Pushback) else None


def _take_pushback(raw: Any) -> bytes:
    pushback = _pushback_of(raw)
    if pushback is None:
        return b""
    pushback.remove(raw)
    return pushback.data


class RecodingReader(Reader):
    """Reads a text in its own encoding: from the point that its layer has reached, to the end of `reader`."""

    __slots__ = ("_begun", "_decoder", "_encoder", "_reader")

    def __init__(self, text: io.TextIOWrapper, decoder: Any, held: tuple[str, bytes], reader: Reader) -> None:
        super().__init__()
        # One encoder for all, since some encodings begin with a mark.
        self._encoder = codecs.getincrementalencoder(text.encoding)(text.errors or "strict")
        self._decoder = decoder
        self._begun = held[0] + decoder.decode(held[1])
        self._reader = reader

    def _read_chunk(self) -> bytes:
        begun, self._begun = self._begun, ""
        while not (data := self._encoder.encode(begun)):
            chunk = self._reader.read1()
            begun = self._decoder.decode(chunk, final=not chunk)
            if not chunk:
                return self._encoder.encode(begun, final=True)
        return data

    def _wake(self) -> None:
        reason = self._reason
        if reason is not None:
            self._reader.interrupt(reason)

    def _release(self) -> None:
        super()._release()
        self._reader.close()


def _decoder_of(text: io.TextIOWrapper) -> Any:
    """Return the decoder of a text layer; None if it has none that can be found."""
    for thing in gc.get_referents(text):
        if isinstance(thing, codecs.IncrementalDecoder | io.IncrementalNewlineDecoder):
            return thing
    return None


def _is_stateless(text: io.TextIOWrapper) -> bool:
    return codecs.lookup(text.encoding).name.startswith(_STATELESS)
