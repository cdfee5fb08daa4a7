"""An external command as a stage."""

from __future__ import annotations

import errno
import os
import signal
from functools import partial

from penstock.core.env import check_layer, merge, show
from penstock.core.habits import program_hint
from penstock.core.loaded import is_template
from penstock.core.options import check_leftover, check_limits
from penstock.core.paths import path
from penstock.core.placeholders import masked
from penstock.core.public import exported
from penstock.core.requirements import Requirements, Stream
from penstock.core.secret import has_secret, restored, without_secret
from penstock.core.stream_options import check_stderr, is_plain
from penstock.stages.base import BuiltinStage
from penstock.stages.process_options import (
    check_argument,
    check_codes,
    check_descriptors,
    check_identity,
    check_own_stdout,
    check_stop_signal,
)
from penstock.stages.running_command import RunningCommand
from penstock.stages.stderr import StderrTarget
from penstock.system.executables import explain_failure, resolve
from penstock.system.fork_guard import late_import
from penstock.system.process import Process
from penstock.system.process_mark import marked
from penstock.system.spawn import can_use_path_search, spawn
from penstock.system.spawn_request import SpawnRequest
from penstock.system.terminal import ignored_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from penstock.limits.confinement import Confinement
    from penstock.runtime.taps import Tap
    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.postponed import Postponed
    from penstock.stages.run_services import RunResources
    from penstock.stages.running import Running
    from penstock.stages.substitution import SubstitutedArguments
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.fds import Fd
    from penstock.system.spawn_launcher import ChildSetup

__all__ = ["Command"]

_FILES = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)


@exported
class Command(BuiltinStage):
    """One program with its arguments; see `penstock.command`."""

    kind = "command"
    requirements = _FILES
    opens_devnull_itself = True
    # For the repr of a stage whose constructor has raised.
    argv: tuple[str | bytes, ...] = ()
    cwd: str | None = None
    env: dict[str, Any] | None = None
    substitutions: SubstitutedArguments | None = None
    """Its arguments that are names of pipes; `argv` has texts for people in their places."""
    placeholders: Mapping[int, Any] | None = None
    """Its arguments that are placeholders; `argv` has texts for people in their places."""
    shown_argv: tuple[str | bytes, ...] = ()
    """The arguments that an error shows, if they are not `argv`."""
    stdout: object = None
    """Where its stdout goes if its stderr alone goes to the next stage; None for the next stage too."""

    def __init__(  # noqa: PLR0913 - the public constructor's options
        self,
        program: object,
        args: Iterable[object],
        *,
        name: str | None,
        cwd: object,
        env: Mapping[str, Any] | None,
        stderr: object,
        stdout: object = None,
        ok_codes: Iterable[int],
        pipe_codes: Iterable[int] = (),
        process_group: bool | None,
        limits: object = None,
        on_leftover: object = None,
        stop_signal: object = signal.SIGTERM,
        user: object = None,
        group: object = None,
        umask: object = -1,
        pass_fds: object = (),
    ) -> None:
        self.name = masked(name) if isinstance(name, str) and name else show(program)
        given = (program, *args)
        try:
            self.argv = tuple([check_argument(self.name, place, arg) for place, arg in enumerate(given)])
        except TypeError:  # a placeholder, or a name of a pipe, maybe
            given = self._take_substitutions(self._take_placeholders(given))
            self.argv = tuple([check_argument(self.name, place, arg) for place, arg in enumerate(given)])
        if not restored(self.argv[0]):
            raise ValueError("the program must not be empty")
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"name must be a non-empty str or None, not {name!r}")
        self.cwd = None if cwd is None else path("cwd", cwd)
        self.env = None if env is None else check_layer("env", env, self.name)
        self.stderr = None if stderr is None else check_stderr("stderr", stderr)
        self.stdout = check_own_stdout(stdout, self.stderr)
        self.ok_codes = check_codes("ok_codes", ok_codes)
        self.pipe_codes = check_codes("pipe_codes", pipe_codes)
        if process_group is not None and not isinstance(process_group, bool):
            raise TypeError(f"process_group must be True, False or None, not {process_group!r}")
        self.process_group = process_group
        self.limits = check_limits("limits", limits)
        self.on_leftover = None if on_leftover is None else check_leftover("on_leftover", on_leftover)
        self.stop_signal = check_stop_signal(stop_signal)
        self.identity = check_identity(user, group, umask)
        self.pass_fds = check_descriptors(pass_fds)
        self.has_placeholders = self.placeholders is not None or any(
            map(is_template, (self.env, self.cwd, self.stderr, self.stdout))
        )
        ends_plain = is_plain("stderr", self.stderr) and is_plain("stdout", self.stdout)
        self.has_no_user_objects = self.env is None and ends_plain

    def _take_placeholders(self, given: tuple[object, ...]) -> tuple[object, ...]:
        """Note the arguments that are placeholders; return the arguments with texts in their places."""
        found = {place: arg for place, arg in enumerate(given) if is_template(arg)}
        if not found:
            return given
        self.placeholders = found
        return tuple([f"{{{arg!r}}}" if place in found else arg for place, arg in enumerate(given)])

    def _take_substitutions(self, given: tuple[object, ...]) -> tuple[object, ...]:
        """Note the arguments that are names of pipes; return the arguments with texts in their places."""
        with late_import:
            from penstock.stages.substitution import Arg, SubstitutedArguments, Substitution  # noqa: PLC0415 - few commands have one

        found = {
            place: arg if isinstance(arg, Arg) else Arg(arg)
            for place, arg in enumerate(given)
            if isinstance(arg, Arg | Substitution)
        }
        if 0 in found:
            raise TypeError(f"the program must be str, bytes, PathLike or Secret, not {given[0]!r}")
        if not found:
            return given
        self.substitutions = made = SubstitutedArguments(found)
        self.inlets, self.outlets = made.inlets, made.outlets
        self.fifos, self.files = made.fifos, made.files
        self.starts_in_graph = True
        return tuple([str(arg) if place in found else arg for place, arg in enumerate(given)])

    @property
    def shown_arguments(self) -> tuple[str, ...]:
        """The program and its arguments as events show them."""
        return tuple([show(arg) for arg in self.shown_argv or self.argv])

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self.argv]
        for place, placeholder in (self.placeholders or {}).items():
            parts[place] = repr(placeholder)
        for place, arg in self.substitutions.shown() if self.substitutions is not None else ():
            parts[place] = arg
        if self.cwd is not None:
            parts.append(f"cwd={self.cwd!r}")
        if self.env is not None:
            parts.append(f"env={self.env!r}")
        return masked(f"command({', '.join(parts)})")

    def start_in_graph(self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts) -> Running:
        """Start the process with names of pipes in its arguments."""
        try:
            bound = self._bound(ports)
            named = {**self.fifos, **self.files}
            _close_ends([end for port, end in ports.ends.items() if port in self.files])
            start = partial(bound._start_with_names, ctx, stdin, stdout, ports, named)  # noqa: SLF001 - the same class
            postponed = _postponed() if self.files else None
        except BaseException:
            _close_ends([stdin, stdout, *ports.ends.values()])
            raise
        if postponed is None:
            return start()
        return postponed(ctx, ports, start, partial(_close_ends, [stdin, stdout, *ports.ends.values()]))

    def _bound(self, ports: StagePorts) -> Command:
        """Return a copy of the stage that has the names of the pipes of a run among its arguments."""
        assert self.substitutions is not None
        names = {port: ports.name_at(port) for port in ports.ends}
        bound = type(self).__new__(type(self))
        vars(bound).update(vars(self))
        argv = list(self.argv)
        for place, text in self.substitutions.texts(names):
            argv[place] = text
        bound.argv = tuple(argv)
        bound.shown_argv = self.argv
        return bound

    def _start_with_names(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts, named: Mapping[str, str]
    ) -> Running:
        """Start the process; it inherits the pipes that have no name of their own (`named`)."""
        kept: list[Input | Output] = []
        try:
            passed = [end.fd for port, end in ports.ends.items() if port not in named]
            self.pass_fds = (*self.pass_fds, *(number for number in passed if number is not None))
            running = self.start(ctx, stdin, stdout)  # which closes both
            # Until the program has opened a FIFO, it has no other reader or writer than this.
            kept = [ports.ends[port] for port in self.fifos]
            running.on_done(partial(_close_ends, kept))
            return running
        finally:
            _close_ends([end for end in ports.ends.values() if end not in kept])

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> Running:
        """Start the process. OSError with a text that says what is missing, if that fails."""
        copied = False
        try:
            source = None if stdin.is_devnull else stdin.fd
            sink = None if stdout.is_devnull else stdout.fd
            if (source is None and not stdin.is_devnull) or (sink is None and not stdout.is_devnull):
                with late_import:  # nothing is spawned yet: if this fails, so does the start
                    from penstock.stages.pipe_adapter import start_with_pipes  # noqa: PLC0415 - rarely needed

                running = start_with_pipes(self.start, ctx, stdin, stdout)
                copied = True
                return running
            return self._start(ctx, source, sink)
        finally:
            if not copied:  # else the copies, which have only just started, close them
                stdin.close()
                stdout.close()

    def _start(self, ctx: StageContext, stdin: int | None, stdout: int | None) -> RunningCommand:
        """Start the process between two file descriptors; None is /dev/null."""
        environ = ctx.scope.environ() if not self.env else merge(ctx.scope.environ(), self.env)
        cwd = None if (folder := self.cwd or ctx.scope.cwd) is None else restored(folder)
        argv = [restored(arg) for arg in self.argv]
        confinement = self._confinement(ctx)
        plain = confinement is None and self.identity is None and not self.pass_fds
        executable = self._executable(environ, cwd, search=plain)
        group = self._needs_group(ctx)
        environ, mark = (environ, None) if group else marked(environ)
        leftover = self.on_leftover or ctx.scope.on_leftover
        resources = ctx.scope.services.resources
        own = None if self.stderr is None else _open("stderr", self.stderr, resources)
        aside: StderrTarget | None = None
        stderr_fd: Fd | None = None
        tap: Tap | None = None
        process: Process | None = None
        try:
            stderr, stderr_fd, tap = (own or ctx.scope.stderr).connect(
                stdout, ctx.reactor, ctx.scope.events, ctx
            )
            setup = self._setup(confinement, ctx)
            ignored = () if group or not ctx.scope.services.at_terminal else ignored_signals()
            if self.stdout is not None:
                aside = _open("stdout", self.stdout, resources)
                stdout = aside.descriptor(1)
            stdio = stdin, stdout, stderr
            request = SpawnRequest(
                executable, argv, environ, cwd, stdio, group, setup, ignored, pass_fds=self.pass_fds
            )
            process = Process(self._spawn(request, ctx), group=group, mark=mark)
            _close(stderr_fd)
            child = RunningCommand(
                ctx,
                process,
                self.shown_argv or self.argv,
                self.ok_codes,
                tap,
                leftover,
                confinement,
                self.stop_signal,
            )
            child.pipe_codes = self.pipe_codes
        except BaseException:
            _close(stderr_fd)
            if process is None or ctx.child is None or ctx.child.pid != process.pid:  # else that owns them
                _close(process, tap, own, aside)  # the run kills the child
            raise
        for target in (own, aside):
            if target is not None:
                child.on_done(target.close)
        child.begin_watch()
        return child

    def _setup(self, confinement: Confinement | None, ctx: StageContext) -> ChildSetup | None:
        """Return what must be set in the child itself; None if there is nothing, as mostly."""
        setup = None if confinement is None else confinement.enter(ctx.scope.events, ctx)
        if self.identity is None:
            return setup
        with late_import:
            from penstock.system.spawn_launcher import ChildSetup  # noqa: PLC0415 - few commands change their user

        if setup is None:
            setup = ChildSetup()
        setup.identity = self.identity.numbers()
        return setup

    def _needs_group(self, ctx: StageContext) -> bool:
        """Whether it leads a process group. A terminal stops its readers in other groups than ours."""
        return not ctx.scope.services.at_terminal if self.process_group is None else self.process_group

    def _executable(self, environ: Mapping[str, str], cwd: str | None, *, search: bool) -> str:
        """Return what to start: a path, or if `search` allows it, a name that the child searches for."""
        program = os.fsdecode(restored(self.argv[0]))
        try:
            if search and can_use_path_search(program, environ):
                return program
            return resolve(program, path=environ.get("PATH"), cwd=cwd)
        except OSError as error:
            failed = self._redacted(error)
        raise failed  # here, so that it has no context, which may tell a secret

    def _spawn(self, request: SpawnRequest, ctx: StageContext) -> int:
        """Start the child. OSError with a text that says what is missing, if that fails."""
        try:
            return spawn(request, ctx.spawned)
        except OSError as error:
            program = os.fsdecode(restored(self.argv[0]))
            failed = self._redacted(
                _explained(error, program, request.env, request.cwd), self.cwd or ctx.scope.cwd
            )
        raise failed  # as above

    def _confinement(self, ctx: StageContext) -> Confinement | None:
        """Return its limits: its own, merged over those of the pipeline."""
        if self.limits is None:
            return ctx.scope.confinement
        with late_import:
            from penstock.limits.confinement import Confinement  # noqa: PLC0415 - most commands have none

        leases = ctx.scope.services.resources.cgroups
        return Confinement.within(ctx.scope.confinement, self.limits, leases, exclusive=True)

    def _redacted(self, error: OSError, cwd: str | None = None) -> OSError:
        """Return the error, without the name of the program or of the working directory if that is secret.

        A missing program that looks like a line for a shell gets a hint.
        """
        if has_secret(self.argv[0]):
            return type(error)(error.errno, "the program, whose name is a secret, could not be started")
        if error.errno == errno.ENOENT and error.filename == os.fsdecode(self.argv[0]):
            hint = program_hint([show(arg) for arg in self.argv])
            if hint:
                return type(error)(error.errno, f"{error.strerror} ({hint})", error.filename)
        return error if cwd is None else without_secret(error, cwd)


def _postponed() -> type[Postponed]:
    with late_import:  # nothing is spawned yet
        from penstock.stages.postponed import Postponed  # noqa: PLC0415 - few commands read whole files
    return Postponed


def _close_ends(ends: Iterable[Input | Output]) -> None:
    for end in ends:
        end.close()


def _open(option: str, value: object, resources: RunResources) -> StderrTarget:
    """Open an end of its own; the run ends what lasts longer than the command."""
    own = StderrTarget(option, value, resources)
    if own.closing is not None:
        resources.objects_to_close.append(own.closing)
    return own


def _close(*things: Fd | Process | Tap | StderrTarget | None) -> None:
    for thing in things:
        if thing is not None:
            thing.close()


def _explained(error: OSError, program: str, environ: Mapping[str, str], cwd: str | None) -> OSError:
    """Return an error that says why the program could not be started; `error` is the kernel's."""
    try:
        executable = resolve(program, path=environ.get("PATH"), cwd=cwd)
    except OSError as found:
        return found
    return explain_failure(error, program=program, executable=executable, cwd=cwd)
