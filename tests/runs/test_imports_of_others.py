"""Other threads that import modules for the first time while runs start: they disturb no run."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from penstock import command
import io, importlib.util

# A module that is being imported by another thread stands in sys.modules before it has its attributes.
for name in ("tempfile", "socket"):
    sys.modules.pop(name, None)
    sys.modules[name] = importlib.util.module_from_spec(importlib.util.find_spec(name))
assert not hasattr(sys.modules["socket"], "socket")
out = open(sys.argv[1], "wb")
assert command("echo", "a").run(stdin=open("/dev/null", "rb"), stdout=out, stderr=out).ok
assert command("cat").output(stdin=io.BytesIO(b"b")) == b"b"
assert command("cat").explain(stdin=io.BytesIO()).edges
print("ok")
"""


@pytest.mark.slow
def test_a_module_that_is_half_imported_is_tolerated(tmp_path: object) -> None:
    """It is in `sys.modules`, but without the classes that an object could have."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{tmp_path}/out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


RACE = """
import threading
from penstock import command
errors = []
def run():
    try:
        for _ in range(20):
            command("true").run(stdin=open("/dev/null"), stdout=open("/dev/null", "w"))
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
import tempfile, socket, ssl, multiprocessing, asyncio
for thread in threads:
    thread.join()
assert not errors, errors
"""


@pytest.mark.slow
def test_first_imports_beside_first_runs() -> None:
    """Of the modules that the engine asks about, among others."""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RACE],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
