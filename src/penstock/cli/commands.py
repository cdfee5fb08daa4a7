"""`penstock run` and `penstock explain`: their options and help, written with click.

Out of scope: anything that can be tested without a command line.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from penstock import INHERIT, TEE
from penstock.cli import output
from penstock.cli.parser import parse
from penstock.cli.runner import execute, plan
from penstock.cli.syntax import PipelineSyntaxError

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["invoke"]

_STREAMS: Final = {"/dev/stdout": 1, "/dev/stderr": 2}

_LANGUAGE: Final = """
\b
PIPELINE is one argument, written as in a shell:
  penstock run 'cat access.log | filter:tools:is_error | sort | uniq -c > report'

\b
  a | b               stages, each reading what the one before it writes
  < FILE              input of the first stage
  > FILE  >> FILE     output of the last stage, overwriting or appending
  2> FILE  2>> FILE   standard error of a command; 2>&1 sends it where its output goes
  2>&1 > FILE |       the next stage reads the standard error alone
  <(a | b)  >(a | b)  in an argument: the name of a pipe that the command reads or writes
  < <(a)  > >(a)      input from a pipeline, output to one
  NAME=value a        a variable for this command alone
  py:MODULE:NAME      a stage, a pipeline, or a function of ctx, stdin and stdout
  lines:MODULE:NAME   a function from an iterator of lines to lines
  map:MODULE:NAME     a function from a line to a line, or to None to drop it
  filter:MODULE:NAME  a function from a line to true or false: false drops the line

Lines are bytes without their line feed. Modules are found in the current folder too.

Words, quotes and comments are as in bash, but no shell is started: $NAME, ~, * and ? are ordinary characters,
a line feed is a blank, and ; & && || ( ) ` are refused unless they are quoted.
"""

_STATUS: Final = """
\b
Exit status:
  0         every stage succeeded, or ended early because a later one had read enough
  1         a Python stage raised, or a file could not be opened
  2         a mistake in the line or the options, or an unknown name
  124       a timeout ended the run
  126, 127  a program cannot be executed, or does not exist
  128 + N   signal N ended the command that failed, or penstock itself;
            141 if the reader of penstock's output has gone
  else      the status of the command that failed
"""


class _Seconds(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read `90`, `1.5`, `1m30s` or `2h` as seconds."""
        number = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
        match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", str(value))
        if not value or match is None:
            self.fail(f"invalid duration {value!r}: use seconds, 90s, 1m30s or 2h", param, ctx)
        seconds = sum(float(part) * unit for part, unit in zip(match.groups("0"), (3600, 60, 1), strict=True))
        if seconds == 0 or math.isinf(seconds):
            self.fail("the duration must be positive and finite", param, ctx)
        return seconds


class _ResultFile(click.File):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open it; /dev/fd/N and its like are the open descriptor, whose position is shared with the caller.

        To open one of those by its name would begin at the start of the file.
        """
        name = str(value)
        found = re.fullmatch(r"(?:/dev|/proc/self)/fd/([0-9]+)", name)
        number = _STREAMS.get(name) if found is None else int(found[1])
        if number is None:
            return super().convert(value, param, ctx)
        try:
            file = open(name, "w", encoding="utf-8", opener=lambda *_: os.dup(number))  # noqa: SIM115 - click closes it
        except (OSError, OverflowError) as error:
            self.fail(f"{name!r}: {getattr(error, 'strerror', error)}", param, ctx)
        if ctx is not None:
            ctx.call_on_close(file.close)
        return file


class _Variable(click.ParamType[tuple[str, str]]):
    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first `=`."""
        name, equals, content = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        return name, content


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", prog_name="penstock")
def group() -> None:
    """Run pipelines of commands and Python functions, with one verdict, deadlines and no leaks."""


def _one_argument(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> str:
    if len(value) == 1:
        return value[0]
    if value:
        line = shlex.quote(shlex.join(value))
        raise click.UsageError(f"PIPELINE must be one argument: put it in quotes, as {line}", ctx)
    raise click.UsageError("PIPELINE is missing: write it as in a shell, in quotes", ctx)


class _Pipeline(click.Command):
    """A command with PIPELINE as its argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take an unknown option after the first word for one of a program: `penstock run ls -l`.

        `--progress` alone takes no word: click would take the next one, which may be PIPELINE.
        """
        args = self._with_modes(args)
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption:
            ctx.allow_interspersed_args = False
            return super().parse_args(ctx, words)

    def _with_modes(self, args: list[str]) -> list[str]:
        """Return the arguments with a mode for each `--progress` that has none."""
        options = [param for param in self.params if isinstance(param, click.Option)]
        if not any("--progress" in option.opts for option in options):
            return args
        takes_word = {name for option in options if not option.is_flag for name in option.opts} - {
            "--progress"
        }
        end = args.index("--") if "--" in args else len(args)
        return [
            "--progress=auto"
            if word == "--progress" and place < end and (place == 0 or args[place - 1] not in takes_word)
            else word
            for place, word in enumerate(args)
        ]


def _progress(mode: str | None) -> Any:
    """Return the option of the run for a mode."""
    if mode == "tty":
        if not os.isatty(2):
            raise click.UsageError("--progress=tty: standard error is not a terminal")
        if importlib.util.find_spec("rich") is None:
            raise click.ClickException("--progress=tty needs rich: pip install 'penstock[cli]'")
    if mode == "json":
        return output.JsonProgress()
    return {"auto": True, "none": None, None: None}.get(mode, mode)


@group.command(cls=_Pipeline, epilog=_LANGUAGE + _STATUS, short_help="Run a pipeline.")
@click.argument("pipeline", nargs=-1, metavar="PIPELINE", callback=_one_argument)
@click.option("--timeout", type=_Seconds(), help="Cancel the run after this time: seconds, 90s, 1m30s or 2h.")
@click.option(
    "--idle-timeout",
    type=_Seconds(),
    help="Cancel the run after this time without output. The last command then writes into a pipe.",
)
@click.option(
    "--cwd",
    type=click.Path(exists=True, file_okay=False),
    help="The folder that the commands run in. Programs, files and modules that PIPELINE names are still "
    "looked up from the current folder.",
)
@click.option("--env", type=_Variable(), multiple=True, help="A variable for all commands; may be repeated.")
@click.option(
    "--tee-stderr",
    is_flag=True,
    help="Show the standard error of commands as it comes, and keep its first and last 32 KiB for --json. "
    "It is a pipe for them then, and no terminal.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "plain", "json", "none"]),
    metavar="[=MODE]",
    help="Show the stages at work, on standard error: as a live view (tty), as a line every 10 s (plain), or "
    "as a JSON object a second (json). Without MODE it is auto: a live view if standard error is a terminal "
    "that PIPELINE does not write to, else plain.",
)
@click.option("--stats", is_flag=True, help="Print a table of the stages at the end, on standard error.")
@click.option(
    "--json",
    "json_file",
    type=_ResultFile("w", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Write the result to FILE as a JSON object. /dev/fd/N is a descriptor of the caller's.",
)
@click.option("--verbose", "-v", is_flag=True, help="Report each stage as it starts and ends.")
def run(  # noqa: PLR0913 - each is an option of the command
    pipeline: str,
    *,
    timeout: float | None,
    idle_timeout: float | None,
    cwd: str | None,
    env: tuple[tuple[str, str], ...],
    tee_stderr: bool,
    progress: str | None,
    stats: bool,
    json_file: TextIO | None,
    verbose: bool,
) -> int:
    """Run PIPELINE, reading standard input and writing standard output as a filter does."""
    if stats and importlib.util.find_spec("rich") is None:
        raise click.ClickException("--stats needs rich: pip install 'penstock[cli]'")
    try:
        outcome = execute(
            parse(pipeline),
            cwd=cwd,
            env=dict(env),
            timeout=timeout,
            idle_timeout=idle_timeout,
            stderr=TEE if tee_stderr else INHERIT,
            on_event=output.print_event if verbose else output.print_stop,
            progress=_progress(progress),
        )
    except PipelineSyntaxError as mistake:
        output.print_err(f"penstock: {mistake.show(pipeline)}")
        if json_file is not None:
            output.write_json(output.mistake_fields(mistake), json_file)
        return mistake.status
    output.print_error(outcome, verbose=verbose)
    if json_file is not None and not output.write_json(output.outcome_fields(outcome), json_file):
        return 1
    if stats and outcome.result is not None:
        output.show_table(outcome.result)
    return output.exit_status(outcome)


@group.command(cls=_Pipeline, epilog=_LANGUAGE, short_help="Show how a pipeline's bytes would travel.")
@click.argument("pipeline", nargs=-1, metavar="PIPELINE", callback=_one_argument)
def explain(pipeline: str) -> int:
    """Show how the bytes of PIPELINE would travel, without starting anything."""
    try:
        text = str(plan(parse(pipeline)))
    except PipelineSyntaxError as mistake:
        output.print_err(f"penstock: {mistake.show(pipeline)}")
        return mistake.status
    if sys.stdout is not None:
        # A word of the line may contain characters that stdout's encoding lacks, or undecodable bytes.
        encoding = sys.stdout.encoding
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    return 0


def invoke(arguments: list[str] | None) -> int:
    """Run the command line and return its exit status; click's own errors are printed here."""
    try:
        status = group.main(arguments, prog_name="penstock", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0
