"""Arguments of a command that stand for pipes: `reading(source)` and `writing(branch)`.

The program gets the name of a pipe, `/dev/fd/N`, or of a FIFO in a folder of the run. It opens that as any
file. If a branch is only a file, the descriptor may be that of the file itself (`engine.direct_files`). An
`Arg` joins such names with text.

Out of scope: the pipelines at the other ends, which are those of any inlet or branch (`engine.graph`).
"""

from __future__ import annotations

import os

from penstock.core.describe import describe
from penstock.core.public import exported, half_made_too
from penstock.core.secret import mistake_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from penstock.stages.branch import Branch

__all__ = ["Arg", "Reading", "SubstitutedArguments", "Substitution", "Writing"]


class Substitution:
    """An argument that is a name of a pipe. `via` is "fd", "fifo" or "file", `suffix` the end of the name."""

    __slots__ = ("suffix", "via")

    def __init__(self, via: str, suffix: str) -> None:
        self.via = via
        self.suffix = suffix


@exported
class Reading(Substitution):
    """The name of a pipe that a program reads; see `penstock.reading`."""

    __slots__ = ("pipeline",)

    def __init__(self, pipeline: Any, via: str, suffix: str) -> None:
        super().__init__(via, suffix)
        self.pipeline = pipeline

    @half_made_too
    def __repr__(self) -> str:
        return f"reading({self.pipeline!r})"

    def __str__(self) -> str:
        return f"<({self.pipeline.name})"


@exported
class Writing(Substitution):
    """The name of a pipe that a program writes; see `penstock.writing`."""

    __slots__ = ("branch",)

    def __init__(self, branch: Branch, via: str, suffix: str) -> None:
        super().__init__(via, suffix)
        self.branch = branch

    @half_made_too
    def __repr__(self) -> str:
        return f"writing({self.branch!r})"

    def __str__(self) -> str:
        return f">({self.branch.name})"


@exported
class Arg:
    """One argument of a command, joined from texts and names of pipes.

    The parts are str, bytes, PathLike, `reading(...)` or `writing(...)`. Raises TypeError for anything else,
    and ValueError for a NUL.

    >>> from penstock import command, reading
    >>> command("dd", Arg("if=", reading(command("printf", "hello"))), "status=none").text()
    'hello'
    """

    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts: tuple[str | bytes | Substitution, ...] = tuple(map(_checked, parts))

    @half_made_too
    def __repr__(self) -> str:
        return f"Arg({', '.join(map(repr, self.parts))})"

    def __str__(self) -> str:
        return "".join(os.fsdecode(part) if isinstance(part, bytes) else str(part) for part in self.parts)


def _checked(part: Any) -> str | bytes | Substitution:
    if isinstance(part, os.PathLike):
        part = os.fspath(part)
    if not isinstance(part, str | bytes | Substitution):
        raise TypeError(
            "a part of an Arg must be str, bytes, PathLike, reading(...) or writing(...), "
            f"not {describe(part)}"
        )
    mistake = None if isinstance(part, Substitution) else mistake_in(part)
    if mistake is not None:
        raise ValueError(f"a part of an Arg {mistake}: {part!r}")
    return part


class SubstitutedArguments:
    """The arguments of one command that hold names of pipes, by their places."""

    def __init__(self, arguments: Mapping[int, Arg]) -> None:
        self.arguments = arguments
        self._ports: dict[int, str] = {}
        self.inlets: dict[str, Any] = {}
        self.outlets: dict[str, Branch] = {}
        self.fifos: dict[str, str] = {}
        """The ends of the names of those that are FIFOs, by port."""
        self.files: dict[str, str] = {}
        """The ends of the names of those that are files, by port."""
        for argument in arguments.values():
            for part in argument.parts:
                if isinstance(part, Substitution):
                    self._add(part)

    def __reduce__(self) -> tuple[Any, ...]:
        return SubstitutedArguments, (self.arguments,)  # the ports are known by the identities of the parts

    def _add(self, part: Substitution) -> None:
        if id(part) in self._ports:
            raise ValueError(
                f"{part!r} is given twice; make one for each place, of a shared(...) source if need be"
            )
        if isinstance(part, Reading):
            port = f"reading {len(self.inlets) + 1}"
            self.inlets[port] = part.pipeline
        else:
            assert isinstance(part, Writing)
            port = f"writing {len(self.outlets) + 1}"
            self.outlets[port] = part.branch
        self._ports[id(part)] = port
        if part.via == "fifo":
            self.fifos[port] = part.suffix
        elif part.via == "file":
            self.files[port] = part.suffix

    def shown(self) -> Iterator[tuple[int, str]]:
        """Yield each argument with its place, as a repr shows it."""
        for place, argument in self.arguments.items():
            alone = len(argument.parts) == 1
            yield place, repr(argument.parts[0] if alone else argument)

    def texts(self, names: Mapping[str, str]) -> Iterator[tuple[int, bytes]]:
        """Yield each argument with its place, for these names of pipes by port."""
        for place, argument in self.arguments.items():
            parts = [
                names[self._ports[id(part)]] if isinstance(part, Substitution) else part
                for part in argument.parts
            ]
            yield place, b"".join(map(os.fsencode, parts))
