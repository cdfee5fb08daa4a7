"""Maps in programs of their own: what reaches their stdout, Ctrl-C, their end, and few descriptors."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.support.processes import gone

if TYPE_CHECKING:
    from tests.support.hosts import Host


def test_each_job_is_written_in_one_piece(host: Host) -> None:
    out = host.output(
        """
        script = 'for n in 1 2 3; do echo "$1"; sleep 0.01; done'
        for job in command("sh", "-c", script, "sh", item).map(list("abcd"), workers=4):
            assert job.stdout is None
        """
    )
    lines = out.splitlines()
    assert len(lines) == 12
    assert all(lines[n] == lines[n + 1] == lines[n + 2] for n in range(0, 12, 3))


def test_with_order_the_jobs_are_written_in_the_order_of_the_inputs(host: Host) -> None:
    out = host.output(
        """
        script = '[ "$1" = 0 ] && sleep 0.2; echo "$1"; [ "$1" != 2 ]'
        jobs = command("sh", "-c", script, "sh", item).map(
            range(5), workers=3, ordered=True, halt="never", check=False
        )
        assert [job.ok for job in jobs] == [True, True, False, True, True]
        """
    )
    assert out == "0\n1\n2\n3\n4\n"


def test_a_large_output_is_written_whole_and_not_held_in_memory(host: Host) -> None:
    out = host.output(
        """
        def peak():  # not ru_maxrss, into which the kernel counts the memory of the parent at the spawn
            with open("/proc/self/status") as file:
                return int(next(line for line in file if line.startswith("VmHWM:")).split()[1])

        sized = command("head", "-c", item, "/dev/zero") | command("tr", "\\\\0", "x")
        for job in sized.map([30_000_000, 1], workers=1):
            pass
        assert peak() < 60_000, "KiB"
        """
    )
    assert out == "x" * 30_000_001


def test_only_the_last_attempt_is_written(host: Host) -> None:
    out = host.output(
        """
        script = 'echo >>"$1"; wc -l <"$1"; [ "$(wc -l <"$1")" = 2 ]'
        path = os.path.join(os.environ["TMPDIR"], "tries")
        (job,) = command("sh", "-c", script, "sh", item).map([path], retries=1, backoff=0)
        os.unlink(path)
        """
    )
    assert out == "2\n"


def test_a_stdout_whose_reader_has_gone_ends_the_map(host: Host) -> None:
    out = host.output(
        """
        import itertools
        read, write = os.pipe()
        os.close(read)
        kept = os.dup(1)
        os.dup2(write, 1)
        try:
            for job in command("echo", item).map(itertools.count()):
                pass
        except PipelineError as error:
            os.write(kept, f"{error.stage} {type(error.cause).__name__}".encode())
        """
    )
    assert out == "stdout BrokenPipeError"


def test_close_does_not_wait_for_a_stdout_that_nobody_reads(host: Host) -> None:
    out = host.output(
        """
        read, write = os.pipe()
        kept = os.dup(1)
        os.dup2(write, 1)
        jobs = command("head", "-c", item, "/dev/zero").map([0, 1_000_000], workers=1)
        next(jobs)
        import array, fcntl, termios
        held = array.array("i", [0])
        while held[0] < 65536:
            fcntl.ioctl(read, termios.FIONREAD, held)
        jobs.close()
        os.write(kept, b"closed")
        """
    )
    assert out == "closed"


LOOP = """
import itertools, os
from penstock import *

def show(line):
    os.write(1, line + b"\\n")

shown = command("sh", "-c", "echo $$; exec sleep 1000", "sh", item) | map_lines(show)
try:
    for job in shown.map(itertools.count(), workers=2):
        pass
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""


def test_ctrl_c_ends_what_runs_and_is_raised(host: Host) -> None:
    started = host.start(LOOP)
    assert started.stdout is not None
    pids = [int(started.stdout.readline()) for _ in range(2)]
    started.send_signal(signal.SIGINT)
    assert started.stdout.readline() == "interrupted\n"
    assert all(gone(pid, 0) for pid in pids)
    assert started.wait(20) == 0


def test_a_program_that_is_killed_takes_its_jobs_along(host: Host) -> None:
    started = host.start(LOOP)
    assert started.stdout is not None
    pids = [int(started.stdout.readline()) for _ in range(2)]
    started.kill()
    assert all(gone(pid) for pid in pids)


def test_a_program_may_end_in_the_middle_of_a_map(host: Host) -> None:
    out = host.output(
        """
        import itertools
        jobs = command("sleep", item).map(itertools.chain([0], itertools.repeat(1000)), workers=2)
        next(jobs)
        say("end")
        """
    )
    assert out == "end\n"


@pytest.mark.slow
def test_interrupts_at_random_moments_leave_nothing(host: Host) -> None:
    out = host.output(
        """
        import gc, itertools, random
        rng = random.Random(7)
        held = lambda: {n for n in os.listdir("/proc/self/fd")}
        list(command("true", item).map(range(9), workers=2))
        before, raised, armed = len(held()), 0, []

        def interrupt(signum, frame):
            while frame is not None:
                if frame.f_code.co_name == "__del__":
                    return
                frame = frame.f_back
            if armed:
                armed.pop()
                raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupt)
        for turn in range(150):
            try:
                armed[:] = [1]
                signal.setitimer(signal.ITIMER_REAL, rng.random() / 40)
                for job in command("true", item).map(range(20), workers=2, collect="bytes"):
                    assert job.ok, job.error
            except KeyboardInterrupt:
                raised += 1
            armed.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            del turn
        deadline = time.monotonic() + 20
        while True:
            gc.collect()
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                children = True
            except ChildProcessError:
                children = False
            if not children and len(held()) <= before:
                break
            assert time.monotonic() < deadline, (children, held(), before)
        say(raised > 20)
        """
    )
    assert out == "True\n"


def test_with_few_descriptors_jobs_fail_and_nothing_hangs(host: Host) -> None:
    out = host.output(
        """
        import resource
        assert len(list(command("true", item).map(range(4), workers=2, collect="bytes"))) == 4
        used = sorted(map(int, os.listdir("/proc/self/fd")))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        for free in range(12):
            taken = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (used[-1] + 40, limit[1]))
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            for _ in range(free):
                os.close(taken.pop())
            jobs = list(command("true", item).map(range(6), workers=2, check=False, halt="never"))
            for number in taken:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            assert len(jobs) == 6
            assert all(job.ok or isinstance(job.error, StartError) for job in jobs), jobs
            if free == 3:
                say("three", any(job.ok for job in jobs))
        assert all(job.ok for job in jobs)
        """
    )
    assert out.startswith("three ")
