"""The constructor of stages of external commands.

It has a module of its own because many programs run nothing else, and so need not load the constructors of
Python stages. Out of scope: starting the command.
"""

from __future__ import annotations

import signal
from functools import wraps

from penstock.api.pipeline import Pipeline
from penstock.core.habits import command_option_hint
from penstock.core.options import DEFAULTS
from penstock.core.placeholders import masked
from penstock.core.public import exported
from penstock.core.secret import has_secret
from penstock.stages.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, ParamSpec

    from penstock.core.item import Placeholder
    from penstock.core.limits import Limits
    from penstock.core.secret import Secret
    from penstock.stages.substitution import Arg, Substitution

    P = ParamSpec("P")

__all__ = ["command"]


def _with_hints(make: Callable[P, Pipeline]) -> Callable[P, Pipeline]:
    """Have the error of an unknown option say what to write, and any error show `***` for a secret."""

    @wraps(make)
    def command(*args: P.args, **options: P.kwargs) -> Pipeline:
        try:
            return make(*args, **options)
        except (TypeError, ValueError) as error:
            hint = None
            if error.__traceback__ is None or error.__traceback__.tb_next is None:  # of the call itself
                hint = command_option_hint(options, DEFAULTS.keys() - (make.__kwdefaults__ or {}).keys())
            if hint is None:
                if has_secret(str(error)):
                    error.args = (masked(str(error)),)
                raise
        raise TypeError(hint)

    return command


@exported
@_with_hints
def command(  # noqa: PLR0913 - the options of a command
    program: str | bytes | os.PathLike[str] | Secret | Placeholder,
    *args: str | bytes | os.PathLike[str] | Secret | Arg | Substitution | Placeholder,
    name: str | None = None,
    cwd: str | bytes | os.PathLike[str] | Placeholder | None = None,
    env: Mapping[str, str | Secret | Placeholder | Callable[[], str | None] | None] | None = None,
    stderr: Any = None,
    stdout: Any = None,
    ok_codes: Iterable[int] = (0,),
    pipe_codes: Iterable[int] = (),
    process_group: bool | None = None,
    limits: Limits | None = None,
    on_leftover: Literal["ignore", "report", "kill"] | None = None,
    stop_signal: int = signal.SIGTERM,
    user: str | int | None = None,
    group: str | int | None = None,
    umask: int = -1,
    pass_fds: Iterable[int] = (),
) -> Pipeline:
    r"""Make a stage of an external command; no shell is involved.

    `program` and `args` are str, bytes, PathLike or `Secret`; `args` may also be `reading(...)`,
    `writing(...)` or `Arg(...)`. In a pipeline that is mapped, each of them may be
    `item`, or a part of it. A `program` with a slash is relative to the caller's working directory,
    whatever `cwd` is. A bare name is searched on the child's PATH, whose empty and relative entries are
    skipped. `cwd`, `env` and `stderr` override the pipeline's options. `name` is
    how errors and results call the stage; the default is `program` as given.

    `stderr=NEXT` sends its stderr to the next stage together with its stdout, as `2>&1 |` in a shell. With
    `stdout` as well, the next stage reads the stderr alone (`2>&1 >file |`). `stdout` is a path (also in
    `atomic` or `appending`), DEVNULL, INHERIT, a blocking descriptor, or a file object that has one. Without
    `stderr=NEXT` it is a ValueError, and so is NEXT in the last stage. `stderr=STDOUT` differs: it follows
    the stdout of the command, wherever that goes, and the last stage may have it.

    The stage fails with `ExitError` if the exit status is not in `ok_codes` or a signal killed the program.
    A missing or unusable program raises a `StartError` when the run starts.

    `pipe_codes` are exit statuses by which the program says that its reader has gone (EPIPE), because it does
    not die of SIGPIPE: `command("ssh", host, "sort", pipe_codes=(255,))`. They are forgiven as SIGPIPE is.
    Known ones are ssh 255, curl 23, ffmpeg 1, Python 1 and 120, openssl 1. If such a status has other reasons
    too, it is forgiven for these as well when the next stage succeeds, so give no more than you need. A
    status in `ok_codes` is a success in any case.

    `process_group` says whether the child leads a process group of its own. With None it does, unless the
    caller's process has a controlling terminal: then it stays in the caller's group, as under `subprocess`.
    So prompts and pagers work, and Ctrl-C, Ctrl-Z and a closed terminal reach the child itself. True keeps
    them away from the child, which the terminal then stops if it reads from it. False always shares the
    caller's group; a program that signals its whole group (`kill 0`) then reaches the caller too.

    `limits` is a `Limits`, laid over the pipeline's. `on_leftover` decides about processes that the command
    started and that still run after it has ended by itself. "ignore" leaves them alone. "report" emits an
    event of kind `leftover` with their `pids`. "kill" emits the event and ends them before the stage counts
    as ended, with SIGTERM and, after the grace time, SIGKILL. They are found in the command's process group,
    and in its cgroup if it has one for itself. Leftovers in a cgroup that several commands share get SIGKILL
    when the run ends. None takes the pipeline's option.

    `stop_signal` is what asks the command to end when it is cancelled; SIGKILL follows after the grace time.
    Give SIGINT for a program that tidies up on Ctrl-C only, as ffmpeg does.

    `user`, `group` (a name or a number) and `umask` are set in the child before its program begins, and
    `pass_fds` are descriptors that it gets under their own numbers, all as in `subprocess`. The user's other
    groups stay those of the caller. A user, a group or a umask costs the start of an interpreter, some 8 ms.

    Raises TypeError for an argument of another type, and ValueError for an empty program or a NUL byte.

    >>> command("printf", "%s", "a|b").output()
    b'a|b'
    >>> from penstock import DEVNULL, NEXT
    >>> noisy = command("sh", "-c", "echo out; echo oops >&2", stderr=NEXT, stdout=DEVNULL)
    >>> (noisy | command("tr", "a-z", "A-Z")).text()
    'OOPS\n'
    """
    made = Command(
        program,
        args,
        name=name,
        cwd=cwd,
        env=env,
        stderr=stderr,
        stdout=stdout,
        ok_codes=ok_codes,
        pipe_codes=pipe_codes,
        process_group=process_group,
        limits=limits,
        on_leftover=on_leftover,
        stop_signal=stop_signal,
        user=user,
        group=group,
        umask=umask,
        pass_fds=pass_fds,
    )
    return Pipeline(made)
