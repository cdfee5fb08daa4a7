"""A real browser without a window: Chromium, which listens to its debugging protocol on a pair of pipes.

Messages are JSON, each with a NUL at its end. The browser reads them from descriptor 3 and writes answers and
events to descriptor 4. So no port is opened, and nothing has to be installed beside the browser.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CHROMIUM", "Browser", "Page"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""Where the browser is; None if there is none."""
_DEADLINE = 60.0
"""Seconds for one answer: a browser takes its time to start on a busy machine."""
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""A program that puts the pipes where the browser looks for them, and becomes the browser."""


class Browser:
    """One browser, with a profile of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        flags += ["--no-first-run", "--disable-extensions", "--disable-background-networking"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={folder}"]
        with contextlib.ExitStack() as theirs:
            read, self._to = _pipe()
            theirs.callback(os.close, read)
            self._from, write = _pipe()
            theirs.callback(os.close, write)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(read), str(write), CHROMIUM, *flags],
                pass_fds=(read, write),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                # It makes a socket in TMPDIR, on a busy machine after a test has looked what is there.
                env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
            )
        self._data = bytearray()
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """All events so far, of all pages."""

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; fail if the browser reports an error."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event of a page that has not come before."""
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._receive())

    def page(self, width: int, height: int = 800, *, dark: bool = False) -> Page:
        """Return a new page that is so many CSS pixels wide."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", session, features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        return Page(self, session)

    def close(self) -> None:
        """End the browser, with all of its processes."""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        try:
            self._process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _DEADLINE
        while (end := self._data.find(b"\0")) < 0:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has ended"
            self._data += data
        message: dict[str, Any] = json.loads(self._data[:end])
        del self._data[: end + 1]
        return message


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def open(self, path: Path) -> None:
        """Load a file, and wait until everything of it is there."""
        self._browser.call("Page.navigate", self._session, url=path.as_uri())
        self._browser.wait_for("Page.loadEventFired", self._session)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        found = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, kind: str = "png", quality: int | None = None) -> bytes:
        """Return what can be seen, as a picture of that kind."""
        options = {} if quality is None else {"quality": quality}
        found = self._browser.call("Page.captureScreenshot", self._session, format=kind, **options)
        return base64.b64decode(found["data"])

    def complaints(self) -> list[dict[str, Any]]:
        """Return what went to the console: messages, errors, and violations of the page's policy."""
        self.evaluate("1")  # what came before has arrived then
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self._events() if event["method"] in methods]

    def requests(self) -> list[str]:
        """Return the URLs that the page has asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._events()
            if event["method"] == "Network.requestWillBeSent"
        ]

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, with numbers that are not those of the browser."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
