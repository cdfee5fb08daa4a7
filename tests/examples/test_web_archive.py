"""The worked example of the async methods: a web handler, a real client, and what is left when that goes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import uvicorn
from tests.support.waiting import DEADLINE

from penstock import Pipeline, command
from penstock.examples import web_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


CONTENT = os.urandom(4 << 20)
"""More than all the buffers between a file and a client that does not read."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits: `small` is a tag on the first; HEAD has a large file too."""
    folder = tmp_path_factory.mktemp("repository")

    def git(*words: str) -> None:
        settings = (
            "-c",
            "user.name=Somebody",
            "-c",
            "user.email=nobody@example.org",
            "-c",
            "core.compression=0",
        )
        subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True)

    git("init", "--quiet")
    (folder / "small").write_bytes(b"small\n")
    git("add", ".")
    git("commit", "--quiet", "--message=small")
    git("tag", "small")
    (folder / "large").write_bytes(CONTENT)
    git("add", ".")
    git("commit", "--quiet", "--message=large")
    return folder


@contextlib.contextmanager
def served(repository: Path) -> Iterator[int]:
    """Serve it from a thread; the port. Whatever still goes on is ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # A small buffer, so that a client which does not read is noticed soon.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        app = web_archive.application(repository)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def get(port: int, name: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    """One request, read to its end."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request(method, f"/archive/{name}.tar.gz")
        response = client.getresponse()
        return response, response.read()


def test_a_client_that_reads_all_has_the_whole_archive(repository: Path) -> None:
    """By a tag and by a branch; HEAD starts nothing."""
    with served(repository) as port:
        response, data = get(port, "small")
        assert (response.status, response.getheader("content-type")) == (200, "application/gzip")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            (member,) = [member for member in tar.getmembers() if member.isfile()]
            assert re.fullmatch(r"archive-[0-9a-f]{12}/small", member.name)
        _, data = get(port, "HEAD")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            (large,) = [member for member in tar.getmembers() if member.name.endswith("/large")]
            file = tar.extractfile(large)
            assert file is not None
            assert file.read() == CONTENT
        response, data = get(port, "small", "HEAD")
        assert (response.status, data) == (200, b"")


def test_when_the_client_goes_away_half_way_the_children_go(
    repository: Path, within: Callable[[float], Any]
) -> None:
    """Within the grace time, while the server goes on serving others."""
    before = psutil.Process().children()  # an idle worker of another test's
    with served(repository) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("GET", "/archive/HEAD.tar.gz")
        response = client.getresponse()
        assert len(response.read(100_000)) == 100_000
        children = [child for child in psutil.Process().children() if child not in before]
        assert sorted(child.name() for child in children) == ["git", "gzip"]
        with within(web_archive.GRACE + 1):
            response.close()
            client.close()
            _, alive = psutil.wait_procs(children, timeout=DEADLINE)
        assert not alive
        assert get(port, "small")[0].status == 200


def test_errors_before_the_first_byte_are_reported(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """404 for a commit that is not there, whatever its name looks like; 500 for a repository that is not."""
    with served(repository) as port:
        for name in ("no-such", "--output=/tmp/x", "small:small"):
            response, data = get(port, name)
            assert (response.status, data) == (404, b"there is no such commit\n")
    assert not caplog.records
    with served(tmp_path) as port:
        response, data = get(port, "HEAD")
        assert (response.status, data) == (500, b"git failed\n")
    (record,) = caplog.records
    assert "not a git repository" in caplog.text
    assert record.name == web_archive.__name__


def broken(script: str) -> Callable[..., Pipeline]:
    """In the place of `archive`: a pipeline whose first stage fails."""

    def archive(*_: object) -> Pipeline:
        return Pipeline(command("sh", "-c", script), command("cat"))

    return archive


def test_a_failure_is_not_taken_for_an_archive(
    repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the response has begun it is a 500; later the connection is cut, and the client knows."""
    with served(repository) as port:
        monkeypatch.setattr(web_archive, "archive", broken("echo a little; exit 3"))
        assert get(port, "small")[0].status == 500
        monkeypatch.setattr(web_archive, "archive", broken("head -c 1000000 /dev/zero; exit 3"))
        with pytest.raises(http.client.IncompleteRead):
            get(port, "small")
    assert "sh: exit status 3" in caplog.text


def test_the_program_serves_until_it_is_interrupted(repository: Path) -> None:
    """As the README starts it."""
    words = [sys.executable, "-m", "penstock.examples.web_archive", "--port", "0", str(repository)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = iter(server.stderr)
        address = next(line for line in said if "running on" in line)
        port = int(re.findall(r":(\d+)", address)[-1])
        assert get(port, "small")[0].status == 200
        server.send_signal(signal.SIGINT)
        server.stderr.read()
    assert server.returncode in (0, -signal.SIGINT)
