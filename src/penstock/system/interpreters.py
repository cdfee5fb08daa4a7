"""Whether this is a subinterpreter, as mod_wsgi and other embedding programs make them.

Such an interpreter ends while the process goes on, and aborts the process if a thread of it is left, a daemon
thread too (Py_EndInterpreter in the C API). So there we start no thread: a run that needs one fails, and says
so. A run of commands alone, whose caller waits for it, needs none.
"""

from __future__ import annotations

import sys

from penstock.system.fork_guard import late_import

__all__ = ["allow_thread"]

_allowed: bool | None = None


def allow_thread() -> None:
    """Raise RuntimeError in a subinterpreter, before a thread is started in it."""
    global _allowed  # noqa: PLW0603 - one answer for each interpreter
    if _allowed is None:
        _allowed = not _is_subinterpreter()
    if not _allowed:
        raise RuntimeError(
            "this is a subinterpreter, whose threads would abort the process at its end: use the main "
            "interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL}), or commands alone by run() or output()"
        )


def _is_subinterpreter() -> bool:
    if hasattr(sys.modules.get("__main__"), "__file__"):
        return False  # it runs the program, and ctypes, by which one can ask, is slow to import
    try:
        with late_import:
            import ctypes  # noqa: PLC0415 - see above

        get, get_id = ctypes.pythonapi.PyInterpreterState_Get, ctypes.pythonapi.PyInterpreterState_GetID
        get.restype, get_id.restype, get_id.argtypes = ctypes.c_void_p, ctypes.c_int64, [ctypes.c_void_p]
        return bool(get_id(get()))
    except (ImportError, AttributeError, OSError):
        return False
