"""Every kind of stdin, in front of a command and of a Python stage."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    Pipeline,
    PipelineError,
    StartError,
    closing,
    command,
    function,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hosts import Host

    Made = Iterator[Any]

# More than a pipe holds; ASCII, so that text and bytes are the same; lines, so that it can be iterated.
DATA = b"".join(b"line %06d\n" % number for number in range(9000))
CONSUMERS = {
    "command": command("cat"),
    "function": function(lambda _ctx, stdin, stdout: stdout.write(stdin.read())),
}


@pytest.fixture(params=CONSUMERS)
def consumer(request: pytest.FixtureRequest) -> Pipeline:
    """What reads the stdin."""
    return CONSUMERS[request.param]


@contextlib.contextmanager
def fed(send: Callable[[bytes], object], finish: Callable[[], object], data: bytes) -> Made:
    """Have a thread send the data, which may be more than fits between."""

    def work() -> None:
        with contextlib.suppress(OSError):
            rest = data
            while rest:
                rest = rest[int(send(rest[:50_000])) :]  # type: ignore[call-overload]
        finish()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield None
    finally:
        thread.join()


@contextlib.contextmanager
def on_disk(data: bytes, opener: Callable[[str], Any]) -> Made:
    """Yield what `opener` makes of a file with the data."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data")  # noqa: PTH118
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(data)
        with contextlib.ExitStack() as stack:
            made = opener(path)
            if isinstance(made, io.IOBase):
                stack.callback(made.close)
            yield made


@contextlib.contextmanager
def compressed(data: bytes, module: Any) -> Made:
    """Yield a file that decompresses while it is read."""
    with on_disk(module.compress(data), lambda path: module.open(path, "rb")) as file:
        yield file


@contextlib.contextmanager
def pipe_end(data: bytes, wrap: Callable[[int], Any], *, blocking: bool = True) -> Made:
    """Yield the reading end of a pipe."""
    reading, writing = os.pipe()
    os.set_blocking(reading, blocking)
    with fed(lambda piece: os.write(writing, piece), lambda: os.close(writing), data):
        made = wrap(reading)
        try:
            yield made
        finally:
            if isinstance(made, int):
                os.close(made)
            else:
                made.close()


@contextlib.contextmanager
def socket_end(data: bytes, *, blocking: bool = True, file: bool = False) -> Made:
    """Yield one end of a pair of sockets."""
    ours, theirs = socket.socketpair()
    ours.setblocking(blocking)
    with ours, fed(theirs.send, theirs.close, data):
        if file:
            with ours.makefile("rb") as made:
                yield made
        else:
            yield ours


@contextlib.contextmanager
def temporary(data: bytes, make: Callable[[], Any]) -> Made:
    """Yield a temporary file at its beginning."""
    with make() as file:
        file.write(data)
        file.seek(0)
        yield file


def plain(make: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Make a context manager of a function that needs none."""
    return lambda data: contextlib.nullcontext(make(data))


class OnlyRead:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, n: int = -1) -> bytes:
        """Read."""
        return self._file.read(n)


class OnlyReadinto:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readinto(self, buffer: Any) -> int:
        """Read a little."""
        return self._file.readinto(memoryview(buffer)[:1000])


class Raw(io.RawIOBase):
    """A raw file in memory, as users write them."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(memoryview(buffer)[:1000])


KINDS: dict[str, Callable[[bytes], Any]] = {
    "path as str": lambda data: on_disk(data, str),
    "path": lambda data: on_disk(data, __import__("pathlib").Path),
    "raw file": lambda data: on_disk(data, lambda path: open(path, "rb", buffering=0)),  # noqa: PTH123, SIM115
    "buffered file": lambda data: on_disk(data, lambda path: open(path, "rb")),  # noqa: PTH123, SIM115
    "random file": lambda data: on_disk(data, lambda path: open(path, "r+b")),  # noqa: PTH123, SIM115
    "text file": lambda data: on_disk(data, lambda path: open(path, encoding="utf-8")),  # noqa: PTH123, SIM115
    "gzip": lambda data: compressed(data, gzip),
    "bz2": lambda data: compressed(data, bz2),
    "lzma": lambda data: compressed(data, lzma),
    "fd of a pipe": lambda data: pipe_end(data, int),
    "fd of a non-blocking pipe": lambda data: pipe_end(data, int, blocking=False),
    "raw file of a pipe": lambda data: pipe_end(data, lambda fd: open(fd, "rb", buffering=0)),  # noqa: PTH123, SIM115
    "buffered file of a pipe": lambda data: pipe_end(data, lambda fd: open(fd, "rb")),  # noqa: PTH123, SIM115
    "text file of a pipe": lambda data: pipe_end(data, lambda fd: open(fd, encoding="utf-8")),  # noqa: PTH123, SIM115
    "socket": socket_end,
    "non-blocking socket": lambda data: socket_end(data, blocking=False),
    "file of a socket": lambda data: socket_end(data, file=True),
    "TemporaryFile": lambda data: temporary(data, tempfile.TemporaryFile),
    "NamedTemporaryFile": lambda data: temporary(data, tempfile.NamedTemporaryFile),
    "SpooledTemporaryFile": lambda data: temporary(data, tempfile.SpooledTemporaryFile),
    "BytesIO": plain(io.BytesIO),
    "StringIO": plain(lambda data: io.StringIO(data.decode())),
    "raw of one's own": plain(Raw),
    "buffered over one's own": plain(lambda data: io.BufferedReader(Raw(data))),
    "read only": plain(OnlyRead),
    "readinto only": plain(OnlyReadinto),
    "list": plain(lambda data: data.splitlines(keepends=True)),
    "tuple with empty chunks": plain(lambda data: (b"", data, b"")),
    "generator": plain(lambda data: (data[i : i + 999] for i in range(0, len(data), 999))),
    "views": plain(lambda data: [memoryview(data)[:5], bytearray(data[5:])]),
}


@pytest.mark.parametrize("data", [DATA, b"x", b""], ids=["much", "little", "nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_arrives_and_what_was_passed_stays_open(
    consumer: Pipeline, kind: str, data: bytes
) -> None:
    """Of every kind of stdin."""
    with KINDS[kind](data) as stdin:
        assert consumer.output(stdin=stdin) == data
        assert getattr(stdin, "closed", False) is False
        if hasattr(stdin, "fileno") and kind not in ("BytesIO", "StringIO") and "own" not in kind:
            with contextlib.suppress(io.UnsupportedOperation):
                os.fstat(stdin.fileno())
        if isinstance(stdin, int):
            assert os.get_blocking(stdin) == ("non-blocking" not in kind)
        if isinstance(stdin, socket.socket):
            assert stdin.getblocking() == ("non-blocking" not in kind)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if "file" in kind.lower() or "IO" in kind or kind == "gzip"]
)
def test_an_object_in_closing_is_closed_after_the_run(consumer: Pipeline, kind: str) -> None:
    """Also where the run fails."""
    with KINDS[kind](b"data") as stdin:
        assert consumer.output(stdin=closing(stdin)) == b"data"
        assert stdin.closed
    with KINDS[kind](b"data") as stdin:
        assert not command("false").run(stdin=closing(stdin), check=False).ok
        assert stdin.closed
    with KINDS[kind](b"data") as stdin:
        assert not command("/no/such/program").run(stdin=closing(stdin), check=False).ok
        assert stdin.closed


def test_a_number_that_was_handed_over_is_closed_after_the_run(consumer: Pipeline) -> None:
    """Once; a socket too."""
    reading, writing = os.pipe()
    os.close(writing)
    assert consumer.output(stdin=closing(reading)) == b""
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(reading)
    ours, theirs = socket.socketpair()
    theirs.close()
    assert consumer.output(stdin=closing(ours)) == b""
    assert ours.fileno() == -1


# input=.


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"bytes", b"bytes"),
        ("größe\r\n", "größe\r\n".encode()),
        (b"", b""),
        ("", b""),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (DATA * 5, DATA * 5),
        (None, b""),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_input_is_what_the_first_stage_reads(consumer: Pipeline, data: Any, read: bytes) -> None:
    """Str as UTF-8, line ends as they are; nothing is nothing, and never the caller's own stdin."""
    assert consumer.output(input=data) == read


def test_an_input_that_is_not_read_is_not_an_error() -> None:
    """However long; EPIPE while feeding is never one."""
    assert command("true").run(input=DATA * 20).ok
    assert command("head", "-c", "1").output(input=DATA * 20) == b"l"
    assert function(lambda _c, _i, _o: None).run(input=DATA * 20, stdout=DEVNULL).ok


# Where a file stands.


def test_a_file_is_read_from_where_it_stands(consumer: Pipeline, tmp_path: Path) -> None:
    """Raw, buffered, text or in memory; what its reader has buffered is not lost."""
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as raw:
        raw.seek(12)
        assert consumer.output(stdin=raw) == DATA[12:]
    with path.open("rb", buffering=0) as raw:
        os.lseek(raw.fileno(), 12, os.SEEK_SET)
        assert consumer.output(stdin=raw.fileno()) == DATA[12:]
    with path.open("rb") as buffered:
        assert buffered.readline() == DATA[:12]
        assert consumer.output(stdin=buffered) == DATA[12:]
    with path.open("r+b") as both:
        assert both.read(5) == DATA[:5]
        assert consumer.output(stdin=both) == DATA[5:]
    with path.open(encoding="utf-8") as text:
        assert text.readline() == DATA[:12].decode()
        assert consumer.output(stdin=text) == DATA[12:]
    with path.open(encoding="utf-8") as text:
        assert next(text) == DATA[:12].decode()  # now tell() is disabled
        assert consumer.output(stdin=text) == DATA[12:]
    memory = io.BytesIO(DATA)
    memory.seek(12)
    assert consumer.output(stdin=memory) == DATA[12:]
    string = io.StringIO(DATA.decode())
    string.readline()
    assert consumer.output(stdin=string) == DATA[12:]


def test_bytes_written_to_the_file_before_are_read(consumer: Pipeline, tmp_path: Path) -> None:
    """Pending writes of a file that is open for both are flushed first."""
    with (tmp_path / "data").open("w+b") as both:
        both.write(b"head and tail")
        both.seek(5)
        assert consumer.output(stdin=both) == b"and tail"
    with (tmp_path / "data").open("w+b") as both:
        both.write(b"x" * 10)
        both.seek(0)
        both.write(b"HEAD")
        assert consumer.output(stdin=both) == b"x" * 6


@pytest.mark.parametrize("wrap", ["socket", "pipe", "text pipe", "gzip"])
def test_a_reader_that_holds_more_than_was_asked_loses_nothing(consumer: Pipeline, wrap: str) -> None:
    """After a header line was read, the rest comes once and in order."""
    kind = {
        "socket": "file of a socket",
        "pipe": "buffered file of a pipe",
        "text pipe": "text file of a pipe",
    }
    with KINDS[kind.get(wrap, wrap)](DATA) as stdin:
        line = stdin.readline()
        assert line in (DATA[:12], DATA[:12].decode())
        assert consumer.output(stdin=stdin) == DATA[12:]


def test_a_file_that_was_read_to_its_end_is_empty(consumer: Pipeline, tmp_path: Path) -> None:
    """It is not rewound."""
    path = tmp_path / "data"
    path.write_bytes(b"data")
    with path.open("rb") as file:
        file.read()
        assert consumer.output(stdin=file) == b""
    memory = io.BytesIO(b"data")
    assert consumer.output(stdin=memory) == b"data"
    assert consumer.output(stdin=memory) == b""


def test_a_text_file_of_another_encoding_keeps_its_bytes(consumer: Pipeline, tmp_path: Path) -> None:
    """They are the object's bytes, whatever they mean."""
    path = tmp_path / "data"
    path.write_bytes("größe\r\nklein\r\n".encode("latin-1"))
    with path.open(encoding="latin-1") as text:
        assert consumer.output(stdin=text) == path.read_bytes()
    with path.open(encoding="latin-1", newline="") as text:
        text.readline()
        assert consumer.output(stdin=text) == b"klein\r\n"


# Specials.


def test_stdin_is_devnull_unless_told_otherwise(consumer: Pipeline) -> None:
    """The caller's own is never read by mistake."""
    assert consumer.output() == b""
    assert consumer.output(stdin=DEVNULL) == b""


HOST = """
stage = command("cat") if sys.argv[1] == "command" else function(lambda c, i, o: o.write(i.read()))
sys.stdout.buffer.write(stage.output(**({"stdin": INHERIT} if sys.argv[2] == "inherit" else {})))
sys.stdout.buffer.write(b"; left: " + sys.stdin.buffer.read())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONSUMERS)
def test_inherited_stdin_is_the_hosts_and_stays_open(host: Host, kind: str) -> None:
    """And the default leaves it alone."""
    assert host.talk(HOST, kind, "inherit", stdin=b"data").stdout == b"data; left: "
    assert host.talk(HOST, kind, "default", stdin=b"data").stdout == b"; left: data"


def test_inherited_stdin_that_is_closed_is_empty(host: Host) -> None:
    """A daemon has none."""
    program = "import os; os.close(0); print([p.output(stdin=INHERIT) for p in (command('cat'), Pipeline())])"
    assert host.talk(program).stdout == b"[b'', b'']\n"


def test_pipe_gives_the_caller_a_file_to_write(consumer: Pipeline) -> None:
    """What is written is on its way at once; closing it is EOF."""
    with consumer.start(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        assert run.stdin.writable()
        assert run.stdin.write(b"") == 0
        assert run.stdin.write(DATA) == len(DATA)
        run.stdin.writelines([b"a", b"b"])
    assert run.wait().stdout == DATA + b"ab"
    assert run.stdin.closed


# Mistakes and failures.


class Failing:
    """Gives some data, then fails, in each way to be read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def read(self, _n: int = -1) -> bytes:
        """Read once."""
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return b"before "


def failing_generator(error: BaseException) -> Iterator[bytes]:
    """Yield once."""
    yield b"before "
    raise error


@pytest.mark.parametrize("make", [Failing, failing_generator])
def test_an_error_of_the_callers_object_is_that_of_a_stage_named_stdin(consumer: Pipeline, make: Any) -> None:
    """The very object; what came before it was delivered."""
    error = ValueError("broken source")
    with pytest.raises(PipelineError) as caught:
        consumer.run(stdin=make(error), stdout=CAPTURE)
    assert caught.value.cause is error
    assert (caught.value.stage, caught.value.index) == ("stdin", None)
    assert str(caught.value) == "stdin: broken source"
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"before "


@pytest.mark.parametrize("chunks", [["text"], [b"a", None], [1, 2], range(3), [[b"x"]]])
def test_an_iterable_of_anything_but_bytes_is_a_type_error_of_stdin(consumer: Pipeline, chunks: Any) -> None:
    """Found when it comes."""
    error = consumer.run(stdin=chunks, check=False, stdout=CAPTURE).error
    assert error is not None
    assert isinstance(error.cause, TypeError)
    assert error.stage == "stdin"


def test_an_object_whose_read_gives_str_is_a_type_error_of_stdin(consumer: Pipeline) -> None:
    """A text file of one's own says nothing of its encoding."""

    class Text:
        def read(self, _n: int = -1) -> str:
            return "text"

    error = consumer.run(stdin=Text(), check=False, stdout=CAPTURE).error
    assert error is not None
    assert isinstance(error.cause, TypeError)
    assert error.stage == "stdin"


def test_a_path_that_cannot_be_opened_fails_the_start(probe: Any, tmp_path: Path) -> None:
    """Nothing has started then."""
    for path, kind in ((tmp_path / "missing", FileNotFoundError), (tmp_path / "f" / "x", NotADirectoryError)):
        (tmp_path / "f").touch()
        with pytest.raises(StartError, match="stdin") as caught:
            Pipeline(probe).run(stdin=path, stdout=DEVNULL)
        assert isinstance(caught.value.cause, kind)
        assert (caught.value.stage, caught.value.index) == ("stdin", None)
    assert probe.starts == 0


def test_a_closed_socket_is_a_value_error(probe: Any) -> None:
    """As a closed file is."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()
    for option in ("stdin", "stdout"):
        given: dict[str, Any] = {option: ours}
        with pytest.raises(ValueError, match=option):
            Pipeline(probe, **given).run()
    assert probe.starts == 0


def test_an_endless_iterable_ends_with_the_pipeline() -> None:
    """It is asked for no more than is needed."""

    def forever() -> Iterator[bytes]:
        while True:
            yield b"y\n" * 1000

    for stage in (command("head", "-n", "1"), function(lambda _c, i, o: o.write(i.readline()))):
        endless = forever()
        assert stage.output(stdin=endless) == b"y\n"
        assert next(endless)  # it is the caller's still, and not closed
        endless.close()  # type: ignore[attr-defined]


def test_a_source_that_blocks_does_not_keep_a_finished_pipeline_waiting(consumer: Pipeline) -> None:  # noqa: ARG001
    """A feeder that sits in the caller's own read() is left behind; it ends when that returns."""
    go_on, returned, entered = threading.Event(), threading.Event(), threading.Event()

    class Blocking:
        def read(self, _n: int = -1) -> bytes:
            entered.set()
            go_on.wait(DEADLINE)
            returned.set()
            return b""

    try:
        last = function(lambda _ctx, _stdin, _stdout: entered.wait(DEADLINE))
        assert (command("true") | last).run(stdin=Blocking()).ok
        assert not returned.is_set()
    finally:
        go_on.set()
    assert returned.wait(DEADLINE)


def test_inherit_is_a_real_descriptor_in_this_process_too() -> None:
    """Whatever the test runner has put there."""
    assert command("true").run(stdin=INHERIT).ok


@pytest.mark.parametrize("pipe_size", [None, 4096])
def test_the_output_of_one_run_is_the_input_of_another(pipe_size: int | None) -> None:
    """`run.stdout` is a file object as others are: a line may have been read from it before."""
    with command("printf", "%s\n", "a", "b", "c").start(stdout=PIPE, pipe_size=pipe_size) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"a\n"
        assert command("head", "-n", "1").output(stdin=run.stdout).startswith(b"b\n")
