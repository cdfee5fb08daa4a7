"""A frozen, slotted dataclass that is made without importing `dataclasses`.

Every run returns objects of three such classes, and a run with a handler makes events. `dataclasses` would
cost the first run 9 ms, because it loads `inspect`, which loads `ast`, `dis`, `tokenize` and `re`. Type
checkers take `record` for `dataclass` itself, and `field` for that of `dataclasses`. So do
`dataclasses.fields`, `replace` and `asdict`: the attributes that they ask for are made then.

Out of scope: the other options of `field()`, inheritance. A class that needs those is a dataclass that is
imported late.
"""

from __future__ import annotations

from reprlib import recursive_repr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as record
    from dataclasses import field
    from typing import Any
else:

    def field(*, default_factory: Callable[[], object]) -> _Factory:
        """Return what a field is set to in the class, if its default is made for each object."""
        return _Factory(default_factory)

    def record(*, frozen: bool, slots: bool) -> Callable[[type], type]:
        """Return the decorator. Both options are there to be read by type checkers, and must be true."""
        assert frozen
        assert slots
        return _made


__all__ = ["field", "record"]

_set = object.__setattr__


class _Factory:
    """Makes the default of a field for each object; as a parameter's default it says so."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make

    def __repr__(self) -> str:
        return "<factory>"


def _made(cls: type) -> type:
    """Make the class again, with slots for the fields that it annotates, and with what a dataclass has."""
    names = tuple(cls.__annotations__)
    members = {name: value for name, value in vars(cls).items() if name not in {"__dict__", "__weakref__"}}
    twins = _Twins(cls.__name__, cls.__bases__, members.copy())
    defaults = {name: members.pop(name) for name in names if name in members}
    members.update(
        __slots__=names,
        __match_args__=names,
        __init__=_constructor(cls, names, defaults),
        __dataclass_fields__=_Borrowed("__dataclass_fields__", twins),
        __dataclass_params__=_Borrowed("__dataclass_params__", twins),
    )
    for method in (_repr, _eq, _hash, _setattr, _delattr, _getstate, _setstate, _replace):
        members.setdefault(f"__{method.__name__[1:]}__", method)
    return type(cls)(cls.__name__, cls.__bases__, members)


class _Twins:
    """The same class as a dataclass, made when it is wanted. Two threads may make two; the first counts."""

    __slots__ = ("_arguments", "_made")

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._made: list[type] = []

    def first(self) -> type:
        """Return the dataclass, always the same one."""
        import dataclasses  # noqa: PLC0415 - nearly always loaded by then: it is what looks at these

        if not self._made:
            name, bases, members = self._arguments
            members = {
                key: dataclasses.field(default_factory=value.make) if isinstance(value, _Factory) else value
                for key, value in members.items()
            }
            self._made.append(dataclasses.dataclass(frozen=True)(type(name, bases, members)))
        return self._made[0]


class _Borrowed:
    """An attribute that `dataclass` would have set on the class: that of its twin, which is a dataclass."""

    __slots__ = ("_name", "_twins")

    def __init__(self, name: str, twins: _Twins) -> None:
        self._name = name
        self._twins = twins

    def __get__(self, instance: object, owner: type) -> Any:
        return vars(self._twins.first())[self._name]


def _constructor(cls: type, names: tuple[str, ...], defaults: dict[str, object]) -> Any:
    """Compile `__init__`, as `dataclass` does; every run makes some of these, so `**fields` is too slow."""
    parameters = ", ".join(f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names)
    body = "".join(
        f"\n    _set(self, {name!r}, {name}.make() if {name}.__class__ is _Factory else {name})"
        if isinstance(defaults.get(name), _Factory)
        else f"\n    _set(self, {name!r}, {name})"
        for name in names
    )
    scope: dict[str, Any] = {"_set": _set, "_defaults": defaults, "_Factory": _Factory}
    exec(f"def __init__(self, {parameters}):{body}", scope)  # noqa: S102 - of names in this package alone
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {**cls.__annotations__, "return": None}
    return made


def _names(self: Any) -> tuple[str, ...]:
    """Return the names of the fields. A subclass that is a dataclass adds to them; plain slots do not."""
    names: tuple[str, ...] = self.__match_args__
    return names


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in _names(self)])


@recursive_repr()
def _repr(self: Any) -> str:
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in _names(self))
    return f"{type(self).__qualname__}({fields})"


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(_self: Any, name: str, _value: object) -> None:
    import dataclasses  # noqa: PLC0415 - only a mistake gets here

    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> None:
    import dataclasses  # noqa: PLC0415 - as above

    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return list(_values(self))


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(_names(self), state, strict=True):
        _set(self, name, value)


def _replace(self: Any, /, **changes: Any) -> Any:
    return type(self)(**{**dict(zip(_names(self), _values(self), strict=True)), **changes})
