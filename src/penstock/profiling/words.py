"""The verdict of a run in words: who failed and why, who was forgiven, who was stopped. Pure functions."""

from __future__ import annotations

from penstock.core.errors import Cancelled, ExitError, PipelineCancelled, PipelineTimeout, StartError, text_of
from penstock.core.matchers import is_pipe_error
from penstock.core.texts import last_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.result import Result, StageResult

__all__ = [
    "ALSO_FAILED",
    "CANCELLED",
    "FAILED",
    "FORGIVEN",
    "NOT_STARTED",
    "OK",
    "outcome_of",
    "sentences_of",
]

OK = "ok"
FAILED = "failed"
"""The run reports the error of this stage."""
ALSO_FAILED = "also failed"
FORGIVEN = "forgiven"
CANCELLED = "stopped"
NOT_STARTED = "not started"

_MAX_NAMES = 8
"""Names that a sentence lists."""


def outcome_of(result: Result, index: int) -> str:
    """Return the outcome of a stage in one or two words."""
    stage, error = result.stages[index], result.error
    if error is not None and error.index == index:
        return FAILED
    if stage.error is None:
        return OK if _ran(result, index) else NOT_STARTED
    if not _ran(result, index):
        return NOT_STARTED
    if isinstance(stage.error, Cancelled) or (error is not None and stage.error is error.cause):
        return CANCELLED
    return FORGIVEN if error is None or is_pipe_error(stage.error) else ALSO_FAILED


def sentences_of(result: Result) -> list[str]:
    """Return the verdict as sentences. The first one says how the run ended.

    >>> from penstock import DEVNULL, command
    >>> for line in sentences_of((command("yes") | command("true")).run(stdout=DEVNULL)):
    ...     print(line)
    The run succeeded.
    Stage 1 (yes) ended with signal: broken pipe, because its reader had enough: no failure.
    """
    found = [_head(result)]
    groups: dict[tuple[str, str], list[str]] = {}
    for index, stage in enumerate(result.stages):
        outcome = outcome_of(result, index)
        error = stage.error
        if error is None and stage.returncode:  # by `ok_codes`, a filter, or because it was to end
            outcome, error = "accepted", ExitError(stage.returncode)
        if outcome not in (OK, FAILED):
            said = "" if error is None else text_of(error) or type(error).__name__
            kind = _kind(outcome, stage)
            groups.setdefault((kind, said), []).append(_name(result, index))
    for (kind, said), names in groups.items():
        listed, several = _listed(names), len(names) > 1
        match kind:
            case "pipe":
                reader = "their readers" if several else "its reader"
                found.append(f"{listed} ended with {said}, because {reader} had enough: no failure.")
            case "accepted":
                found.append(f"{listed} ended with {said}, which was accepted.")
            case "forgiven":
                found.append(f"{listed} failed with {said}, and that was forgiven.")
            case "stopped":
                found.append(f"{listed} {'were' if several else 'was'} stopped: {said}.")
            case "not started":
                found.append(f"{listed} {'were' if several else 'was'} not started.")
            case _:
                found.append(f"{listed} also failed: {said}.")
    return found


def _head(result: Result) -> str:
    error = result.error
    if error is None:
        return "The run succeeded."
    why = text_of(error.cause) or type(error.cause).__name__
    if isinstance(error, PipelineTimeout):
        return f"The deadline ended the run: {why}."
    if isinstance(error, PipelineCancelled):
        return f"The run was cancelled: {why}."
    if not isinstance(error.cause, OSError) and error.index is not None and _is_python(result, error.index):
        why = f"{type(error.cause).__name__}: {why}"
    elif isinstance(error.cause, ExitError) and (said := last_line(error.cause.stderr)):
        why = f"{why}: {said}"
    if error.index is None or error.index >= len(result.stages):
        which = f"{error.stage}" if error.stage else "the run"
    else:
        which = _name(result, error.index)
    if isinstance(error, StartError):
        return f"The run could not start: {which}: {why}."
    return f"The run failed at {which[0].lower()}{which[1:]}: {why}."


def _kind(outcome: str, stage: StageResult) -> str:
    if outcome == FORGIVEN and stage.error is not None and is_pipe_error(stage.error):
        return "pipe"
    return outcome


def _ran(result: Result, index: int) -> bool:
    stage = result.stages[index]
    return stage.elapsed is not None


def _is_python(result: Result, index: int) -> bool:
    return index < len(result.stages) and result.stages[index].kind != "command"


def _name(result: Result, index: int) -> str:
    return f"Stage {index + 1} ({result.stages[index].name})"


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence; those beyond a few are counted."""
    shown = list(names[:_MAX_NAMES])
    if len(names) > _MAX_NAMES:
        shown.append(f"{len(names) - _MAX_NAMES} more")
    if len(shown) == 1:
        return shown[0]
    rest = [name[0].lower() + name[1:] for name in shown[1:]]
    return f"{', '.join([shown[0], *rest[:-1]])} and {rest[-1]}"
