"""The programs of docs/services.md end by SIGTERM as the page says, and leave no command behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil
import pytest
from tests.support.processes import kill_survivors
from tests.support.waiting import DEADLINE, until

from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not features.PROCFS, reason="psutil sees the commands of a program by /proc"),
]

PAGE = Path(__file__).parents[1] / "docs" / "services.md"
BLOCKS = re.compile(r"^```python\n# (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAMS: dict[str, str] = dict(BLOCKS.findall(PAGE.read_text(encoding="utf-8")))


class Start(Protocol):
    def __call__(self, *words: str) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python program in a folder with all programs of the page."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty.conf.py").touch()
    lines = PROGRAMS["script.py"].splitlines()
    (tmp_path / "bare.py").write_text("\n".join(each for each in lines if "signal.signal" not in each))
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(tmp_path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def commands(program: subprocess.Popen[bytes], count: int = 2) -> list[int]:
    """Wait for the commands of a program; return their pids."""
    found: list[int] = []

    def there() -> bool:
        assert program.poll() is None
        found.clear()
        for child in psutil.Process(program.pid).children(recursive=True):
            try:
                if child.name() in ("sleep", "cat"):
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                continue
        return len(found) == count

    until(there)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(port: int, path: str) -> Callable[[], bytes]:
    """Send a request as soon as the server listens; return a function that waits for the whole answer."""
    connected: list[socket.socket] = []

    def connect() -> bool:
        try:
            connected.append(socket.create_connection(("127.0.0.1", port), DEADLINE))
        except ConnectionRefusedError:
            return False
        return True

    until(connect)
    answer: list[bytes] = []

    def receive() -> None:
        with connected[0] as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            data = b""
            try:
                while part := client.recv(65536):
                    data += part
            except ConnectionResetError:
                pass
            answer.append(data)

    thread = threading.Thread(target=receive)
    thread.start()

    def wait() -> bytes:
        thread.join(DEADLINE)
        return answer[0]

    return wait


@pytest.mark.parametrize(
    ("program", "count", "status"), [("script.py", 2, 143), ("pool.py", 8, 0), ("loop.py", 2, 0)]
)
def test_a_program_ends_its_commands(program: str, count: int, status: int, start: Start) -> None:
    """The status is that of the page, so no signal has ended it."""
    process = start(program)
    pids = commands(process, count)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == status
    assert kill_survivors(pids, 0) == []


@pytest.mark.parametrize("path", ["/task", "/thread"])
@pytest.mark.parametrize("application", ["app", "patient"])
def test_uvicorn_ends_the_runs_of_its_requests(application: str, path: str, start: Start) -> None:
    """At once by the `lifespan`, which answers with an error; or after the graceful time."""
    pytest.importorskip("uvicorn")
    port = free_port()
    words = ["-m", "uvicorn", f"asgi:{application}", "--port", str(port)]
    process = start(*words, "--timeout-graceful-shutdown", "1" if application == "patient" else "1000")
    answer = request(port, path)
    pids = commands(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == -signal.SIGTERM
    assert kill_survivors(pids, DEADLINE) == []
    assert application == "patient" or answer().startswith(b"HTTP/1.1 500 ")
    answer()


@pytest.mark.parametrize("config", ["gunicorn.conf.py", "empty.conf.py"])
def test_gunicorn_ends_the_run_of_a_worker(config: str, start: Start) -> None:
    """At once by the hook; or by SIGKILL to the worker, after which the guardian ends its commands."""
    pytest.importorskip("gunicorn")
    port = free_port()
    words = ["-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}", "--config", config]
    process = start(*words, "--graceful-timeout", "1000" if config == "gunicorn.conf.py" else "1")
    answer = request(port, "/")
    pids = commands(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 0
    assert kill_survivors(pids, DEADLINE) == []
    assert config == "empty.conf.py" or answer().startswith(b"HTTP/1.1 500 ")
    answer()


def test_gunicorn_ends_the_run_of_a_request_that_takes_too_long(start: Start) -> None:
    """Its worker gets SIGABRT, of which gunicorn makes a SystemExit; another worker goes on."""
    pytest.importorskip("gunicorn")
    port = free_port()
    words = ["-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}", "--config", "empty.conf.py"]
    process = start(*words, "--timeout", "1")
    answer = request(port, "/")
    pids = commands(process)
    assert kill_survivors(pids, DEADLINE) == []
    assert process.poll() is None
    answer()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a namespace of pids")
@pytest.mark.parametrize("handler", [True, False])
def test_process_1_needs_a_handler(handler: bool, start: Start) -> None:  # noqa: FBT001
    """As in a container: without one, the kernel ignores SIGTERM, and only SIGKILL ends it."""
    script = "script.py" if handler else "bare.py"
    unshare = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, script]
    process = start("-c", f"import os; os.execvp('unshare', {unshare!r})")
    try:
        pids = commands(process)
    except AssertionError:
        pytest.skip("no namespace can be made here")
    (first,) = psutil.Process(process.pid).children()
    first.send_signal(signal.SIGTERM)
    if not handler:
        with pytest.raises(psutil.TimeoutExpired):
            first.wait(0.3)
        first.kill()
    status = process.wait(DEADLINE)
    assert status == 143 or not handler
    assert kill_survivors(pids, DEADLINE) == []
