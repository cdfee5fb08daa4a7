"""The times that the engine waits, in one record.

Its users read a field of `timing` each time they need it and keep no copy, so that a test can replace the
record's values for a while.

Out of scope: what a user may set (`timeout`, `grace`), and sizes and counts.
"""

from __future__ import annotations

__all__ = ["Timing", "timing"]


class Timing:
    """Seconds; each field says what happens when they are over."""

    __slots__ = (
        "cancel_margin_s",
        "cgroup_idle_s",
        "close_grace_s",
        "kill_timeout_s",
        "look_span_s",
        "loop_start_stall_s",
        "max_sleep_s",
        "object_lock_s",
        "spool_pause_s",
        "spool_stall_s",
        "stage_stall_s",
        "start_stall_s",
        "stderr_end_s",
        "stderr_line_s",
        "stderr_stall_s",
        "thread_idle_s",
        "worker_idle_s",
    )

    def __init__(self) -> None:
        self.stage_stall_s = 0.002
        """Stages that wait for a thread get one, unless a stage before them ended or slept in its streams."""
        self.start_stall_s = 0.25
        """Threads that wait for a turn to start stop counting those that have one, if no turn ended."""
        self.loop_start_stall_s = 0.02
        """Another thread helps with the starts for event loops, if none of them got on."""
        self.max_sleep_s = 1.0
        """A sleep of a reactor, or of the main thread in a stream, ends.

        A signal that arrives in the instant before the main thread goes to sleep does not wake it. Its
        handler, which may raise KeyboardInterrupt, runs after this at the latest.
        """
        self.object_lock_s = 2.0
        """A file object that another thread holds counts as in use."""
        self.spool_stall_s = 0.02
        """A full output that has accepted nothing stands still: if a join waits, a split spools for it."""
        self.spool_pause_s = 0.1
        """A split whose full outputs stand still looks again whether it is to spool for them."""
        self.thread_idle_s = 5.0
        """An idle thread of the pool ends."""
        self.worker_idle_s = 10.0
        """An idle worker process ends."""
        self.cgroup_idle_s = 5.0
        """A cgroup that waits for its next use is removed."""
        self.kill_timeout_s = 0.5
        """A process that does not die of SIGKILL is left behind."""
        self.stderr_stall_s = 5.0
        """Commands that our stderr holds up, because it takes nothing (TEE), are no longer shown."""
        self.stderr_line_s = 0.05
        """A piece of a line is shown (TEE), although other commands are shown too."""
        self.stderr_end_s = 1.0
        """A run that has ended no longer waits for our stderr (TEE), which takes nothing."""
        self.close_grace_s = 0.2
        """User code that was called late, after a cancellation, has had its time to end."""
        self.cancel_margin_s = 1.0
        """A run that was cancelled has ended, counted from the end of its grace time."""
        self.look_span_s = 3.0
        """A look at a run no longer counts for rates, nor for what its snapshots name as the bottleneck."""


timing = Timing()
