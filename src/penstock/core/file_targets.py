"""The values of stdout and stderr that name a file and say how it is written: `atomic` and `appending`.

Out of scope: opening them (`system.atomic_file`).
"""

from __future__ import annotations

import os

from penstock.core.loaded import is_template
from penstock.core.public import exported
from penstock.core.secret import has_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from penstock.core.item import Placeholder

    Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Placeholder

__all__ = ["FileTarget", "appending", "atomic"]


class FileTarget:
    """A file by its path; immutable."""

    __slots__ = ("path",)
    path: str

    def __init__(self, path: Path) -> None:
        name = type(self).__name__
        if is_template(path):
            self.path = path  # type: ignore[assignment] # a str once it is bound, before anything runs
            return
        if not isinstance(path, str | bytes | os.PathLike):
            raise TypeError(f"{name}() takes a path (str, bytes or PathLike), not {path!r}")
        text = os.fsdecode(path)
        if has_secret(text):
            raise ValueError(
                f"the path of {name}() cannot have a Secret in it; give the path of its reveal()"
            )
        if not text or "\0" in text:
            raise ValueError(f"the path of {name}() must not be empty or contain a NUL byte: {text!r}")
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise ValueError(f"the path of {name}() cannot be encoded: {text!r}") from None
        self.path = text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __eq__(self, other: object) -> bool:
        return self.path == other.path if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.path))


@exported
class atomic(FileTarget):  # noqa: N801 - reads as an adverb in a call, as `closing` does
    r"""As stdout or stderr: write a file that is complete or not there.

    `path` is str, bytes or PathLike. Raises TypeError for anything else, and ValueError if it is empty, has a
    NUL byte or cannot be encoded. A relative path is relative to the working directory of this process when
    the run starts.

    The run writes a part file `<target>.<random>.part` in the folder of the target. When the run has
    succeeded and everything is on the disk, the part is renamed to the target. If the run fails or is
    cancelled, the target is as it was and the part is removed. Only a host that dies by a signal leaves a
    part behind; the host holds a lock (flock(2)) on it while it lives.

    A symlink is followed. Mode and owner of an existing target are kept; a new one gets 0o666 without the
    umask. Its other hard links keep the old content. ValueError if the target exists and is not a regular
    file, or if another output of the run writes to it and is not atomic; several atomic ones share the part.
    `StartError`, before anything starts, if the folder is missing, the target may not be written, or its
    owner cannot be kept. A full disk fails the run.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from penstock import command
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "sorted")
    ...     _ = command("sort").run(input="b\na\n", stdout=atomic(path))
    ...     result = command("sh", "-c", "echo half; exit 3").run(stdout=atomic(path), check=False)
    ...     result.ok, path.read_text(), [each.name for each in Path(folder).iterdir()]
    (False, 'a\nb\n', ['sorted'])
    """

    __slots__ = ()


@exported
class appending(FileTarget):  # noqa: N801 - as above
    r"""As stdout or stderr: append to a file, which is created if it is missing.

    `path` is as for `atomic`, and so are the errors about it. Each write goes to the end (O_APPEND), so
    several processes may append to one file. A run that fails has appended what was written until then.
    `StartError`, before anything starts, if the file cannot be opened.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from penstock import command
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "log")
    ...     for word in ("one", "two"):
    ...         _ = command("echo", word).run(stdout=appending(path))
    ...     path.read_text()
    'one\ntwo\n'
    """

    __slots__ = ()
