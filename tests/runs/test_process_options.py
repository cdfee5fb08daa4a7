"""Options of a command that are about its process, and signals to it."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import gone, sh
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    PIPE,
    Limits,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    map_lines,
)
from penstock.system import features

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Strays

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")


@pytest.mark.parametrize("name", ["INT", "TERM", "USR1", "QUIT"])
@pytest.mark.parametrize("process_group", [True, False])
def test_the_stop_signal_is_what_asks_a_command_to_end(name: str, process_group: bool) -> None:  # noqa: FBT001
    """A shell waits for its child, which gets the signal too."""
    script = f"trap 'echo {name}; exit 0' {name}; echo; while :; do sleep 0.01; done"
    stage = sh(script, stop_signal=signal.Signals[f"SIG{name}"], process_group=process_group)
    run = stage.start(stdout=PIPE, grace=DEADLINE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    assert run.stdout.read() == name.encode() + b"\n"
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)


def test_sigkill_follows_if_the_stop_signal_is_ignored(strays: Strays) -> None:
    """As after SIGTERM."""
    stage = sh(
        "trap '' INT; echo $$ >>$PIDS; echo; while :; do sleep 1; done", strays, stop_signal=signal.SIGINT
    )
    run = stage.start(stdout=PIPE, grace=0.2)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled) as caught:
        run.wait(DEADLINE)
    assert caught.value.result is not None
    assert caught.value.result.returncodes == (-signal.SIGKILL,)
    assert gone(strays.pids()[0])


@pytest.mark.parametrize("value", [0, 64 + 1000, signal.SIGSTOP, signal.SIGCONT, -9])
def test_a_stop_signal_that_ends_nothing_is_a_value_error(value: int) -> None:
    """When the stage is made."""
    with pytest.raises(ValueError, match="stop_signal"):
        command("true", stop_signal=value)


@pytest.mark.parametrize("value", ["INT", None, 2.0, True])
def test_a_stop_signal_of_another_type_is_a_type_error(value: Any) -> None:
    """Its name is not enough: `signal.SIGINT` is meant."""
    with pytest.raises(TypeError, match="stop_signal"):
        command("true", stop_signal=value)


def test_a_signal_goes_to_the_command_itself() -> None:
    """Not to the child that it waits for, which the signal would end."""
    script = "trap 'echo heard; exit 7' USR1; (trap - USR1; exec sleep 1000) & echo $!; wait"
    run = sh(script, ok_codes=(7,)).start(stdout=PIPE, on_leftover="kill")
    assert run.stdout is not None
    child = int(run.stdout.readline())
    os.kill(child, 0)
    run.send_signal(signal.SIGUSR1)
    assert run.stdout.readline() == b"heard\n"
    assert run.wait(DEADLINE).returncodes == (7,)
    run.stdout.close()
    assert gone(child)
    run.send_signal(signal.SIGUSR1)  # it has ended, so nothing happens


@pytest.mark.parametrize("stage", ["last", 1])
def test_a_signal_may_go_to_one_stage(stage: str | int) -> None:
    """By its name or its index."""
    script = "trap 'echo heard; exit 0' USR1; echo; while :; do sleep 0.01; done"
    run = (
        command("sh", "-c", "exec sleep 1000", name="first") | command("sh", "-c", script, name="last")
    ).start(stdout=PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.send_signal(signal.SIGUSR1, stage)
    assert run.stdout.readline() == b"heard\n"
    run.send_signal(signal.SIGTERM, "first")
    run.stdout.close()
    with pytest.raises(PipelineError, match="first: signal"):
        run.wait(DEADLINE)


def test_a_signal_in_an_event_loop() -> None:
    """The same method."""

    async def main() -> tuple[int | None, ...]:
        async with command("sleep", "1000", ok_codes=(-signal.SIGUSR2,)).astart() as run:
            run.send_signal(signal.SIGUSR2)
            return (await run.wait()).returncodes

    assert asyncio.run(main()) == (-signal.SIGUSR2,)


def test_mistakes_of_send_signal() -> None:
    """Each says what there is."""
    with (command("cat") | map_lines(bytes.upper)).start(stdin=PIPE, stdout=CAPTURE) as run:
        with pytest.raises(ValueError, match=r"no stage 'dog'; there are: 'cat', "):
            run.send_signal(signal.SIGUSR1, "dog")
        with pytest.raises(ValueError, match="not a command"):
            run.send_signal(signal.SIGUSR1, 1)
        for wrong in (0, 1000, "TERM", True):
            with pytest.raises(ValueError, match="no signal"):
                run.send_signal(wrong)  # type: ignore[arg-type]


NOBODY = pwd.getpwnam("nobody")


@needs_root
@pytest.mark.parametrize("user", ["nobody", NOBODY.pw_uid])
@pytest.mark.parametrize("limits", [None, Limits(open_files=64, cgroup="never")])
def test_another_user_and_group(user: str | int, limits: Limits | None) -> None:
    """By name or by number, with limits and without; nothing of the caller's identity is kept."""
    script = "id -u; id -ru; id -g; id -rg; ulimit -n"
    out = sh(script, user=user, group=NOBODY.pw_gid, limits=limits).text().split()
    assert out[:4] == [str(NOBODY.pw_uid)] * 2 + [str(NOBODY.pw_gid)] * 2
    assert limits is None or out[4] == "64"
    assert os.geteuid() == 0


@needs_root
def test_a_command_of_another_user_is_ended_as_any_other() -> None:
    """By its deadline."""
    with pytest.raises(PipelineTimeout):
        sh("sleep 1000 & wait", user="nobody").run(timeout=0.5)


def test_a_umask(tmp_path: Path) -> None:
    """The caller's own stays."""
    before = os.umask(0o022)
    os.umask(before)
    assert sh("umask; : >f", umask=0o077, cwd=tmp_path).text() == "0077\n"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert os.umask(before) == before


@pytest.mark.parametrize("limits", [None, Limits(open_files=64, cgroup="never")])
@pytest.mark.parametrize("count", [1, 30])
def test_further_descriptors_have_their_own_numbers(
    limits: Limits | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are open in the child and nothing else is; in the caller they stay as they are."""
    pipes = [os.pipe() for _ in range(count)]
    writers = tuple(writer for _, writer in pipes)
    for spawner in (True, False):
        monkeypatch.setattr(features, "GLIBC_SPAWN", spawner and features.GLIBC_SPAWN)
        script = "import os, sys\nfor fd in map(int, sys.argv[1:]): os.write(fd, b'x%d' % fd)\n"
        script += "print([fd for fd in range(1024) if os.path.exists(f'/proc/self/fd/{fd}')])"
        stage = command(
            "python3", "-I", "-S", "-c", script, *map(str, writers), pass_fds=writers, limits=limits
        )
        assert stage.text() == f"{sorted({0, 1, 2, *writers})}\n"
        for reader, writer in pipes:
            assert os.read(reader, 100) == b"x%d" % writer
            assert not os.get_inheritable(writer)
    for pair in pipes:
        for fd in pair:
            os.close(fd)


def test_a_closed_descriptor_to_pass_on_fails_the_start() -> None:
    """With the stage's name."""
    with pytest.raises(StartError, match="true"):
        command("true", pass_fds=(999,)).run()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"user": -1}, "user"),
        ({"group": 2**40}, "group"),
        ({"umask": 0o1000}, "umask"),
        ({"pass_fds": (1,)}, "stdin, stdout or stderr"),
    ],
)
def test_values_that_mean_nothing(options: dict[str, Any], says: str) -> None:
    """A ValueError when the stage is made."""
    with pytest.raises(ValueError, match=says):
        command("true", **options)


@pytest.mark.parametrize(
    "options", [{"user": 1.5}, {"group": True}, {"umask": "022"}, {"pass_fds": 3}, {"pass_fds": ("3",)}]
)
def test_values_of_another_type(options: dict[str, Any]) -> None:
    """A TypeError when the stage is made, which names the option."""
    with pytest.raises(TypeError, match=next(iter(options))):
        command("true", **options)


def test_a_user_that_does_not_exist_fails_the_start() -> None:
    """With its name."""
    with pytest.raises(StartError, match="there is no user 'nobody-like-this'"):
        command("true", user="nobody-like-this").run()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do that")
def test_a_user_who_may_not_become_another_fails_the_start() -> None:
    """It says what could not be done."""
    with pytest.raises(StartError, match="the user could not be changed"):
        command("true", user=0).run()


def test_a_closed_descriptor_is_never_one_of_our_own_pipes() -> None:
    """The next pipe of the run would get its number, and a reader in the command would keep it open."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(StartError, match=f"pass_fds: {reader} is not an open descriptor"):
        (command("yes", pass_fds=(reader,)) | command("head", "-n", "1")).run(timeout=DEADLINE)
