"""Makes pipes, relays and their readers for a test, and closes what is left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from typing import Any

from tests.support.waiting import DEADLINE

from penstock.streams.relay import Lane, Outlet, Relay
from penstock.streams.spool import SpoolBudget
from penstock.system.fds import Fd, pipe

__all__ = ["Kit", "Reader", "Running", "always"]


def always() -> bool:
    """Return True, for `join_waits`."""
    return True


class Reader(threading.Thread):
    """Reads a pipe to its end, or closes it after so many bytes."""

    def __init__(self, fd: Fd, at_most: int = 1 << 60, pieces: int = 65536) -> None:
        super().__init__()
        self.fd, self.at_most, self.pieces = fd, at_most, pieces
        self.data = b""
        self.start()

    def run(self) -> None:
        found = []
        size = 0
        while size < self.at_most:
            piece = os.read(self.fd.fileno(), min(self.pieces, self.at_most - size))
            if not piece:
                break
            found.append(piece)
            size += len(piece)
        self.fd.close()
        self.data = b"".join(found)

    def result(self) -> bytes:
        self.join(DEADLINE)
        assert not self.is_alive()
        return self.data


class Running(threading.Thread):
    """A relay that runs in its thread."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay
        self.error: BaseException | None = None
        self.cpu = 0.0
        self.start()

    def run(self) -> None:
        try:
            self.relay.run()
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self.error = error
        self.cpu = time.thread_time()

    def finish(self) -> None:
        self.join(DEADLINE)
        if self.is_alive():
            self.relay.interrupt(TimeoutError("the relay did not end"))
            self.join()
        if self.error is not None:
            raise self.error


class Kit:
    """Makes pipes and relays for a test, and closes what is left."""

    def __init__(self) -> None:
        self.ends: list[Fd] = []
        self.writers: list[threading.Thread] = []
        self.relays: list[Relay] = []
        self.threads: list[Running] = []
        self.children: list[subprocess.Popen[bytes]] = []

    def pipe(self) -> tuple[Fd, Fd]:
        ends = pipe()
        self.ends += ends
        return ends

    def outlet(self, name: str = "a", **options: Any) -> tuple[Fd, Outlet]:
        reader, writer = self.pipe()
        return reader, Outlet(writer, name=name, **options)

    def source(self, data: bytes) -> Fd:
        """Return a pipe that a thread writes to; it stops if the reader has gone."""
        reader, writer = pipe()
        self.ends.append(reader)

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), memoryview(data) as view:
                done = 0
                while done < len(view):
                    done += os.write(writer.fileno(), view[done:])
            writer.close()

        self.writers.append(threading.Thread(target=write))
        self.writers[-1].start()
        return reader

    def program(
        self, *argv: str, stdin: Fd | None = None, stdout: Fd | None = None, keep: tuple[Fd, ...] = ()
    ) -> None:
        """Start a program, and close our copies of its descriptors."""
        ours = [fd for fd in (stdin, stdout, *keep) if fd is not None]
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else stdin.fileno(),
            stdout=subprocess.DEVNULL if stdout is None else stdout.fileno(),
            pass_fds=[fd.fileno() for fd in keep],
        )
        self.children.append(child)
        for fd in ours:
            fd.close()

    def start(
        self, *lanes: Lane, limit: int | None = None, budget: SpoolBudget | None = None, **options: Any
    ) -> Running:
        relay = Relay(lanes, budget or SpoolBudget(limit), **options)
        self.relays.append(relay)
        running = Running(relay)
        self.threads.append(running)
        return running

    def close(self) -> None:
        for relay in self.relays:
            relay.close()
        for thread in self.threads:
            thread.join()
        for end in self.ends:
            end.close()
        for writer in self.writers:
            writer.join()
        for child in self.children:
            child.kill()
            child.wait()
