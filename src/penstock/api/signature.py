"""The signature of a constructor that takes the options of a pipeline as a mapping."""

from __future__ import annotations

from penstock.core.options import DEFAULTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inspect import Signature

__all__ = ["OptionsSignature"]


class OptionsSignature:
    """The signature that `help()` and `inspect` show: the options by name, with their defaults.

    The constructor takes the options as a mapping, so that it knows which of them were given: a nested
    pipeline's `stderr=CAPTURE` overrides its parent's, although it is the default.
    """

    def __get__(self, instance: object, owner: type) -> Signature:
        from inspect import Parameter, Signature  # noqa: PLC0415 - only needed when somebody looks

        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in DEFAULTS.items()
        ]
        return Signature([Parameter("stages", Parameter.VAR_POSITIONAL), *options])
