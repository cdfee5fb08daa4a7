"""What a pipeline holds in memory does not depend on how much passes through it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow


MIB = 1 << 20

FUNCTIONS = {
    "by chunks": "def fn(ctx, stdin, stdout):\n    for chunk in stdin.chunks():\n        stdout.write(chunk)",
    "by readinto": """
def fn(ctx, stdin, stdout):
    buffer = bytearray(65536)
    with memoryview(buffer) as view:
        while size := stdin.readinto(buffer):
            stdout.write(view[:size])
""",
}


@pytest.mark.parametrize("how", FUNCTIONS)
def test_a_gibibyte_through_commands_and_functions_takes_less_than_60_mb(how: str) -> None:
    """`head -c 1G /dev/zero | fn | cat | fn`, in an interpreter of its own, which tells its peak."""
    program = FUNCTIONS[how] + textwrap.dedent(
        """
        from penstock import command, function
        pipeline = command("head", "-c", "1G", "/dev/zero") | function(fn) | command("cat") | function(fn)
        count = 0
        for chunk in pipeline.iter_bytes():
            count += len(chunk)
        # Not ru_maxrss, which begins with the peak of the process that this one was forked from.
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(count, int(peak.split()[1]) * 1024)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, peak = map(int, done.stdout.split())
    assert count == 1024 * MIB
    assert peak < 60_000_000
