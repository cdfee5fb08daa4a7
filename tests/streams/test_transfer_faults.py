"""The copy ladder where the kernel fails: by patched calls everywhere, by strace where it is installed.

Whatever a mover says, and after however many bytes, what arrives is what was sent, once and in order; an
error that is real comes up as it is, and the count is right.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from penstock.streams.transfer import Transfer
from penstock.system import features, system_calls
from penstock.system.fds import open_read, open_write, pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# It fits into a pipe at once, so that the calls can be counted.
DATA = os.urandom(60_000)

# The mover, what feeds it, and the switches of the rungs above it.
PAIRS = [
    ("splice", "pipe", ()),
    ("copy_file_range", "file", ()),
    ("sendfile", "file", ("COPY_FILE_RANGE",)),
    ("readv", "pipe", ("SPLICE",)),
    ("write", "file", ("COPY_FILE_RANGE", "SENDFILE")),
]
MOVERS = PAIRS[:3]


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[str, Transfer, Path]]:
    """Give the name of the call, a transfer of DATA into a file that uses it, and the file."""
    name, kind, off = request.param
    if not hasattr(os, name):
        pytest.skip(f"no {name} here")
    for switch in off:
        monkeypatch.setattr(features, switch, False)
    if kind == "pipe":
        source, writer = pipe()
        os.write(writer.fileno(), DATA)
        writer.close()
    else:
        (tmp_path / "source").write_bytes(DATA)
        source = open_read(tmp_path / "source")
    transfer = Transfer(source, open_write(tmp_path / "sink"), source_owned=True, sink_owned=True)
    yield name, transfer, tmp_path / "sink"
    transfer.close()


def _inject(
    patch: pytest.MonkeyPatch, name: str, fault: Callable[[int], None], *, most: int | None = None
) -> Callable[[], int]:
    """Call `fault(n)` before the n-th `system_calls.<name>`; let it move `most` bytes. Return the count."""
    real: Any = getattr(system_calls, name)
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        fault(calls)
        if most is not None:
            arguments = _shortened(name, arguments, most)
        return real(*arguments, **options)

    patch.setattr(system_calls, name, call)
    return lambda: calls


def _shortened(name: str, arguments: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    *others, last = arguments
    if name == "readv":
        return (*others, (last[0][:most],))
    return (*others, last[:most] if name == "write" else min(last, most))


def _raise(number: int, *, when: Callable[[int], bool]) -> Callable[[int], None]:
    def fault(call: int) -> None:
        if when(call):
            raise OSError(number, os.strerror(number))

    return fault


@pytest.mark.gotcha(18)
@pytest.mark.parametrize("pair", MOVERS, indirect=True, ids=lambda pair: pair[0])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("code", ["ENOSYS", "EINVAL", "EXDEV", "EOPNOTSUPP", "EPERM", "EBADF", "EIO"])
def test_a_mover_that_cannot_steps_down_from_where_it_stopped(
    pair: tuple[str, Transfer, Path], code: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once or after some bytes, it is asked no more, and the next rung goes on."""
    name, transfer, sink = pair
    first = transfer.kind
    fault = _raise(getattr(errno, code), when=lambda call: call > after)
    calls = _inject(monkeypatch, name, fault, most=10_007)
    assert transfer.run() == len(DATA)
    assert sink.read_bytes() == DATA
    assert transfer.kind != first
    assert calls() == after + 1


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids=lambda pair: pair[0])
def test_short_counts_are_completed(
    pair: tuple[str, Transfer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that moves less than it was asked for is called again."""
    name, transfer, sink = pair
    first = transfer.kind
    _inject(monkeypatch, name, lambda _: None, most=1021)
    assert transfer.run() == transfer.count == len(DATA)
    assert sink.read_bytes() == DATA
    assert transfer.kind == first


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids=lambda pair: pair[0])
def test_eagain_now_and_then_is_waited_for(
    pair: tuple[str, Transfer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other call would block; the same rung carries on."""
    name, transfer, sink = pair
    first = transfer.kind
    _inject(monkeypatch, name, _raise(errno.EAGAIN, when=lambda call: call % 2 == 1), most=10_007)
    assert transfer.run() == len(DATA)
    assert sink.read_bytes() == DATA
    assert transfer.kind == first


@pytest.mark.parametrize("pair", MOVERS, indirect=True, ids=lambda pair: pair[0])
def test_eagain_for_ever_with_both_sides_ready_steps_down(
    pair: tuple[str, Transfer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not spin: a mover that refuses what poll promises is left."""
    name, transfer, sink = pair
    first = transfer.kind
    calls = _inject(monkeypatch, name, _raise(errno.EAGAIN, when=lambda _: True))
    assert transfer.run() == len(DATA)
    assert sink.read_bytes() == DATA
    assert transfer.kind != first
    assert calls() < 50


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids=lambda pair: pair[0])
@pytest.mark.parametrize("code", ["ENOSPC", "EFBIG", "ECONNRESET", "EPIPE"])
def test_a_real_error_comes_up_after_the_bytes_before_it(
    pair: tuple[str, Transfer, Path], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count is what has arrived."""
    name, transfer, sink = pair
    _inject(monkeypatch, name, _raise(getattr(errno, code), when=lambda call: call == 3), most=10_007)
    with pytest.raises(OSError, match=r"\S") as caught:
        transfer.run()
    assert caught.value.errno == getattr(errno, code)
    assert transfer.count == 2 * 10_007
    assert sink.read_bytes() == DATA[: transfer.count]


@pytest.mark.parametrize("off", [(), ("SENDFILE",)])
def test_a_full_disk_is_enospc(off: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full, by the kernel and by the pooled loop."""
    for switch in off:
        monkeypatch.setattr(features, switch, False)
    (tmp_path / "source").write_bytes(DATA)
    transfer = Transfer(
        open_read(tmp_path / "source"), open_write("/dev/full"), source_owned=True, sink_owned=True
    )
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        transfer.run()
    transfer.close()
    assert transfer.count == 0


# Run under strace, or under limits: copies stdin to stdout down the ladder, and says by which rung.
PROGRAM = """
import errno, sys
from penstock.streams.transfer import Transfer
from penstock.system import features
from penstock.system.fds import Fd, duplicate
for name in sys.argv[1:]:
    setattr(features, name, False)
transfer = Transfer(duplicate(0), duplicate(1), source_owned=True, sink_owned=True)
failed = []
try:
    transfer.run()
except OSError as error:
    failed = [errno.errorcode[error.errno]]
transfer.close()
print(transfer.kind, transfer.count, *failed, file=sys.stderr, flush=True)
"""

STRACE = [
    ("splice", "error=ENOSYS", "pipe", (), "pooled"),
    ("splice", "error=EINVAL:when=3+", "pipe", (), "pooled"),
    ("splice", "error=EAGAIN:when=1+2", "pipe", (), "splice"),
    ("splice", "error=EINTR:when=1+2", "pipe", (), "splice"),
    ("copy_file_range", "error=ENOSYS", "file", (), "sendfile"),
    ("copy_file_range", "error=EXDEV", "file", (), "sendfile"),
    ("copy_file_range", "error=EAGAIN:when=1", "file", (), "copy-file-range"),
    ("copy_file_range,sendfile", "error=EINVAL", "file", (), "pooled"),
    ("sendfile", "error=EAGAIN:when=1", "file", ("COPY_FILE_RANGE",), "sendfile"),
    ("sendfile", "error=EINTR:when=1", "file", ("COPY_FILE_RANGE",), "sendfile"),
    ("readv", "error=EAGAIN:when=1+2", "pipe", ("SPLICE",), "pooled"),
    ("readv", "error=EINTR:when=1+2", "pipe", ("SPLICE",), "pooled"),
    ("write", "error=EAGAIN:when=1", "pipe", ("SPLICE",), "pooled"),
    ("write", "error=EINTR:when=1", "pipe", ("SPLICE",), "pooled"),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(("calls", "fault", "kind", "off", "rung"), STRACE)
def test_faults_injected_into_the_kernels_answers(
    calls: str, fault: str, kind: str, off: tuple[str, ...], rung: str, tmp_path: Path
) -> None:
    """Every byte arrives, and the rung is the one that is left."""
    data = DATA * 5
    (tmp_path / "source").write_bytes(data)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    command += [sys.executable, "-c", PROGRAM, *off]
    if kind == "pipe":
        command = ["sh", "-c", 'cat "$0" | "$@"', str(tmp_path / "source"), *command]
    with (tmp_path / "source").open("rb") as source, (tmp_path / "sink").open("wb") as sink:
        done = subprocess.run(
            command, stdin=source, stdout=sink, stderr=subprocess.PIPE, timeout=60, check=False
        )
    text = done.stderr.decode()
    if "ptrace" in text and "ermitted" in text:
        pytest.skip("strace may not trace here")
    assert text.split() == [rung, str(len(data))]
    assert (tmp_path / "sink").read_bytes() == data
    assert "INJECTED" in trace.read_text()


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have one size here")
@pytest.mark.parametrize(("off", "rung"), [((), "splice"), (("SPLICE",), "pooled")])
def test_the_kernels_own_short_counts_between_pipes_of_a_page(off: tuple[str, ...], rung: str) -> None:
    """No call moves more than the 4 KiB that there may be, or that there is room for."""
    ends = [os.pipe(), os.pipe()]
    for _, writer in ends:
        if fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096) != 4096:
            pytest.skip("no pipe is that small here")
    (source, writer), (reader, sink) = ends
    program = [sys.executable, "-c", PROGRAM, *off]
    with subprocess.Popen(program, stdin=source, stdout=sink, stderr=subprocess.PIPE) as copier:
        os.close(source)
        os.close(sink)
        feeder = threading.Thread(target=_write_all, args=(writer, DATA * 5))
        feeder.start()
        with open(reader, "rb") as file:  # noqa: PTH123 - a descriptor
            assert file.read() == DATA * 5
        feeder.join()
        assert copier.communicate()[1].decode().split() == [rung, str(len(DATA * 5))]


def _write_all(number: int, data: bytes) -> None:
    with open(number, "wb") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("source", "off"),
    [
        ("file", ()),
        ("file", ("COPY_FILE_RANGE",)),
        ("file", ("COPY_FILE_RANGE", "SENDFILE")),
        ("pipe", ()),
        ("pipe", ("SPLICE",)),
    ],
)
def test_the_kernels_own_short_count_at_the_largest_size_of_a_file(
    source: str, off: tuple[str, ...], tmp_path: Path
) -> None:
    """The last call moves what there is room for (RLIMIT_FSIZE), and the next is the error, by every rung."""
    room = 100 * 1024 + 512
    (tmp_path / "source").write_bytes(DATA * 5)
    copy = ["sh", "-c", f'ulimit -f {room // 512}; exec "$@"', "sh", sys.executable, "-c", PROGRAM, *off]
    if source == "pipe":
        copy = ["sh", "-c", 'cat "$0" 2>/dev/null | "$@"', str(tmp_path / "source"), *copy]
    with (tmp_path / "source").open("rb") as stdin, (tmp_path / "sink").open("wb") as sink:
        done = subprocess.run(copy, stdin=stdin, stdout=sink, stderr=subprocess.PIPE, timeout=60, check=False)
    _, count, error = done.stderr.decode().split()
    assert (int(count), error) == (room, "EFBIG")
    assert (tmp_path / "sink").read_bytes() == (DATA * 5)[:room]
