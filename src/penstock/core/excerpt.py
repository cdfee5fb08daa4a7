"""A bounded capture: the beginning and the end of a stream of any length.

Strategy: the first bytes fill `head` and stay. All others go to a tail, which grows to twice its size before
its front is cut off, so that even bytes fed one by one cost a constant time each. At most head + 3 x tail
bytes are held.

Out of scope: reading, and locks. One thread feeds; a thread that reads the value must know that feeding is
over, or share a lock with the feeding thread.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

    Buffer: TypeAlias = "bytes | bytearray | memoryview"

__all__ = ["DEFAULT_HEAD", "DEFAULT_TAIL", "Excerpt"]

DEFAULT_HEAD: Final = 32 * 1024
DEFAULT_TAIL: Final = 32 * 1024


class Excerpt:
    r"""Keep the first `head` and the last `tail` bytes that are fed, and count them all.

    `total` is the number of bytes fed. The data is copied, so the caller may reuse its buffer.

    >>> excerpt = Excerpt(head=4, tail=4)
    >>> excerpt.feed(b"abcdefgh"), excerpt.value()
    (None, b'abcdefgh')
    >>> excerpt.feed(b"ijkl"), excerpt.value(), excerpt.total
    (None, b'abcd\n... 4 bytes omitted ...\nijkl', 12)
    """

    __slots__ = ("_end", "_head", "_start", "_tail", "total")

    def __init__(self, *, head: int = DEFAULT_HEAD, tail: int = DEFAULT_TAIL) -> None:
        if head < 0 or tail < 0:
            raise ValueError(f"head and tail must not be negative, not {head} and {tail}")
        self._head = head
        self._tail = tail
        self._start = bytearray()
        self._end = bytearray()
        self.total = 0

    def feed(self, data: Buffer) -> None:
        """Take the next bytes, any number of them."""
        # A view, so that only the two ends of a huge chunk are copied.
        with memoryview(data) as whole, whole.cast("B") as view:
            self.total += len(view)
            room = self._head - len(self._start)
            if room > 0:
                self._start += view[:room]
            # Skip the bytes that the head took, and those that the tail would drop at once.
            skipped = max(room, len(view) - self._tail, 0)
            if len(view) - skipped == self._tail:
                self._end = bytearray(view[skipped:])
                return
            self._end += view[skipped:]
        if len(self._end) > 2 * self._tail:
            del self._end[: len(self._end) - self._tail]

    @property
    def omitted(self) -> int:
        """The number of bytes in the middle that are not kept."""
        return max(self.total - self._head - self._tail, 0)

    def value(self) -> bytes:
        r"""Return all bytes if they fit into head + tail, else both ends with a mark between.

        The mark is `\n... 123456 bytes omitted ...\n`.
        """
        omitted = self.omitted
        if not omitted:
            return bytes(self._start + self._end)
        return b"%b\n... %d bytes omitted ...\n%b" % (
            bytes(self._start),
            omitted,
            self._last(self._tail),
        )

    def last_lines(self, n: int, max_bytes: int) -> str:
        """Return at most the last `n` lines, from at most the last `max_bytes` bytes, for a person to read.

        Empty lines at the end are not counted. Lines are joined by LF, without one at the end; a CR before an
        LF is dropped. Undecodable bytes become replacement characters, and "..." stands for the missing part
        of the first line. Returns "" if only empty lines, or nothing, was fed.
        """
        if n <= 0 or max_bytes <= 0:
            return ""
        kept = self._last(self._tail) if self.omitted else bytes(self._start + self._end)
        ended = kept.rstrip(b"\r\n")
        text = ended[-max_bytes:]
        cut = len(text) < len(ended) and ended[-max_bytes - 1] != 0x0A
        cut = cut or (len(text) == len(ended) and self.omitted > 0)
        if cut:
            # The cut may have left the end of a multibyte character: at most three continuation bytes.
            text = text[:3].lstrip(_CONTINUATION) + text[3:]
        lines = text.split(b"\n")
        if len(lines) > n:
            lines, cut = lines[-n:], False
        shown = "\n".join(line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines)
        return f"...{shown}" if cut and shown else shown

    def _last(self, count: int) -> bytes:
        """Return the last `count` bytes of the tail; a slice from -0 would be all of it."""
        return bytes(self._end[max(len(self._end) - count, 0) :])


_CONTINUATION: Final = bytes(range(0x80, 0xC0))
