# pathlib is slow to import.
# ruff: noqa: PTH109, PTH117
"""Tell whether a relative path means nothing, because the working directory of this process is gone.

The kernel says ENOENT for it, as for a file that is missing, and `os.getcwd` names no file at all.

Out of scope: the working directories of children, which are options.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["caller_folder", "explain_missing"]

_GONE = "the working directory of this process is gone, to which this path is relative"


def caller_folder(path: str) -> str:
    """Return the working directory; raise OSError, naming `path`, if there is none."""
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, _GONE, path) from None
    except OSError as error:  # a parent may not be read
        raise OSError(error.errno, error.strerror, path) from None


def explain_missing(error: OSError, path: str | bytes | os.PathLike[Any]) -> OSError:
    """Return an error of the same errno that says so if this is the reason of `error`, else `error`."""
    name = os.fsdecode(path)
    if not os.path.isabs(name):
        try:
            os.getcwd()
        except FileNotFoundError:
            return OSError(error.errno, _GONE, name)
        except OSError:  # then something else is wrong
            pass
    return error
