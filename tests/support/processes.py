"""Looking at processes that are nobody's children here: what commands have started."""

from __future__ import annotations

import os
import select

import psutil

__all__ = ["alive", "gone"]


def alive(pid: int) -> bool:
    """Whether it runs at this moment; orphans that have ended wait for an init that may never reap."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone(pid: int, timeout: float = 20.0) -> bool:
    """Whether it has ended, reaped or not, or does so within `timeout` seconds: SIGKILL takes a moment."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)
