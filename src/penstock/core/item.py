"""`item`, the placeholder for an input of `Pipeline.map`, and the values that it stands for.

A placeholder is a list of steps: attributes of a path, a key, text before or after. `value_of` takes them
for one input. A pipeline that holds a placeholder is a template: it cannot be run, only mapped. The modules
that check arguments and options find placeholders by `core.loaded`, so that programs without one never load
this module.

A placeholder in an f-string would become a text that nobody can fill in, so `str()` of one raises.

Out of scope: the walk through a pipeline that puts the values in (`jobs.binding`).
"""

# pathlib does I/O, and is slow to import.
# ruff: noqa: PTH118, PTH119, PTH120, PTH122
from __future__ import annotations

import os
from collections.abc import Mapping

from penstock.core.describe import describe
from penstock.core.file_targets import FileTarget
from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    Step = tuple[str, object]

__all__ = ["MapInput", "Placeholder", "bound", "expand", "is_template", "item", "parse_template"]


@exported
class Placeholder:
    """The place of `item`, or of a part of it; see `penstock.item`. Immutable."""

    __slots__ = ("_steps",)

    def __init__(self, steps: tuple[Step, ...] = ()) -> None:
        self._steps = steps

    def _then(self, step: str, argument: object = None) -> Placeholder:
        return Placeholder((*self._steps, (step, argument)))

    @property
    def path(self) -> Placeholder:
        """The path as text: the input itself, which is then a str, bytes or PathLike."""
        return self._then("path")

    @property
    def name(self) -> Placeholder:
        """The last part of the path: `b.tar.gz` of `a/b.tar.gz`."""
        return self._then("name")

    @property
    def stem(self) -> Placeholder:
        """The name without its last suffix: `b.tar`."""
        return self._then("stem")

    @property
    def suffix(self) -> Placeholder:
        """The last suffix of the name, with its dot: `.gz`."""
        return self._then("suffix")

    @property
    def parent(self) -> Placeholder:
        """The folder of the path: `a`; `.` if the path has none."""
        return self._then("parent")

    def with_suffix(self, suffix: str) -> Placeholder:
        """Return the path with another last suffix: `a/b.tar.png` for `.png`."""
        return self._then("with_suffix", _checked("with_suffix", suffix))

    def with_name(self, name: str) -> Placeholder:
        """Return the path with another name."""
        return self._then("with_name", _checked("with_name", name))

    def __truediv__(self, other: str) -> Placeholder:
        return self._then("/", _checked("/", other))

    def __add__(self, other: str) -> Placeholder:
        return self._then("+", other) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> Placeholder:
        return self._then("before", other) if isinstance(other, str) else NotImplemented

    def __getitem__(self, key: object) -> Placeholder:
        return self._then("[]", key)

    __iter__ = None  # else `__getitem__` would make it an endless iterable
    __contains__ = None

    def __repr__(self) -> str:
        text = "item"
        for step, argument in self._steps:
            text = _SHOWN[step].format(text, f"{argument!r}") if step in _SHOWN else f"{text}.{step}"
        return text

    def __str__(self) -> str:
        raise TypeError(
            f"{self!r} stands for an input that is not known yet, so it has no text: "
            'join it by +, as in "--out=" + item.stem + ".png"'
        )

    def __format__(self, _spec: str) -> str:
        return str(self)


@exported
class _Item(Placeholder):
    """The input of each job of a map, in arguments, `env`, `cwd` and paths of the pipeline.

    `item` itself is the input: str, bytes, PathLike, or a number, which becomes text. `item["sample"]` is an
    entry of an input that is a mapping or a sequence. If the input, or the entry, is a path, `.path`,
    `.name`, `.stem`, `.suffix`, `.parent`, `.with_suffix(".png")`, `.with_name("x")` and `/ "x"` are what
    they are for a `pathlib.Path`, as texts. `item.index` is the number of the input, from 0. `+` puts text
    before or after: `"--size=" + item["size"]`. `str()` and f-strings raise TypeError: the text is not known
    yet. A pipeline with a placeholder can only be mapped; to run it is a ValueError.

    >>> from penstock import command, item
    >>> shown = command("printf", "%s>%s", item.path, item.with_suffix(".png"))
    >>> [job.stdout for job in shown.map(["a/b.jpg", "c.jpg"], collect="text", ordered=True)]
    ['a/b.jpg>a/b.png', 'c.jpg>c.png']
    """

    __slots__ = ()

    @property
    def index(self) -> Placeholder:
        """The number of the input, from 0."""
        return self._then("index")

    def __reduce__(self) -> str:
        return "item"


_SHOWN: Final = {
    "with_suffix": "{}.with_suffix({})",
    "with_name": "{}.with_name({})",
    "/": "({} / {})",
    "+": "({} + {})",
    "before": "({1} + {0})",
    "[]": "{}[{}]",
}

item = _Item()


class MapInput:
    """One input of a map, and its number."""

    __slots__ = ("index", "value")

    def __init__(self, value: Any, index: int) -> None:
        self.value = value
        self.index = index

    def __repr__(self) -> str:
        return f"input {self.index}, {describe(self.value)}"


def is_template(value: object) -> bool:
    """Whether the value of an option or an argument is a placeholder, or has one in it."""
    if isinstance(value, FileTarget):
        value = value.path
    if isinstance(value, dict):
        return any(isinstance(each, Placeholder) for each in value.values())
    return isinstance(value, Placeholder)


def bound(value: Any, given: MapInput) -> Any:
    """Return a value with what its placeholders stand for; other values as they are.

    Raises ValueError, naming the placeholder and the input, if the input has no such thing.
    """
    if isinstance(value, Placeholder):
        return _value_of(value, given)
    if not is_template(value):
        return value
    if isinstance(value, FileTarget):
        return type(value)(bound(value.path, given))
    return {name: bound(each, given) for name, each in value.items()}


def parse_template(template: str) -> list[str | Placeholder]:
    """Return the texts and the placeholders of a template such as `out/{stem}.gz`, in their order.

    `{path}`, `{name}`, `{stem}`, `{suffix}`, `{parent}` and `{index}` are those of `item`, any other name is
    an entry of the input, `{}` the input itself; `{{` and `}}` are braces. Raises ValueError for a brace
    without its other one.
    """
    parts: list[str | Placeholder] = [""]
    place = 0
    while place < len(template):
        char = template[place]
        if char in "{}" and template[place : place + 2] == 2 * char:
            text, place = char, place + 2
        elif char == "{":
            end = template.find("}", place)
            name = template[place + 1 : end]
            if end < 0 or "{" in name:
                raise ValueError(f"the template {template!r} has a brace without its other one; write {{{{")
            parts += [_named(name), ""]
            place = end + 1
            continue
        elif char == "}":
            raise ValueError(f"the template {template!r} has a brace without its other one; write }}}}")
        else:
            text, place = char, place + 1
        parts[-1] += text  # a text, always
    return [part for part in parts if part != ""]


def expand(parts: list[str | Placeholder], given: MapInput) -> str:
    """Return the text of a template that `parse_template` has read. Raises ValueError as `bound` does."""
    return "".join([part if isinstance(part, str) else os.fsdecode(bound(part, given)) for part in parts])


def _named(name: str) -> Placeholder:
    if not name:
        return item
    return Placeholder(((name, None),)) if name in (*_OF_PATHS, "path", "index") else item[name]


def _checked(step: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{step} of a placeholder takes a str, not {describe(text)}")
    if step == "with_suffix" and (text == "." or (text and not text.startswith(".")) or "/" in text):
        raise ValueError(f"a suffix begins with a dot, and has no slash: {text!r}")
    if step == "with_name" and (not text or "/" in text or text == "."):
        raise ValueError(f"a name is not empty, and has no slash: {text!r}")
    return text


def _value_of(placeholder: Placeholder, given: MapInput) -> str | bytes | os.PathLike[str]:
    value = given.value
    try:
        for step, argument in placeholder._steps:  # noqa: SLF001 - of its own module
            value = given.index if step == "index" else _step(value, step, argument)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str | bytes | os.PathLike):
            raise TypeError(f"it is {describe(value)}, and not a text, a path or a number")  # noqa: TRY301 - to be named below
    except Exception as error:
        raise ValueError(f"{placeholder!r} of {given!r}: {_said(error)}") from error
    return value


def _said(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _step(value: Any, step: str, argument: Any) -> Any:
    if step == "[]":
        if isinstance(value, str | bytes | os.PathLike):
            raise TypeError(f"{describe(value)} has no entries")
        return value[argument]
    text = _text(value)
    if step == "+":
        return text + argument
    if step == "before":
        return argument + text
    return text if step == "path" else _OF_PATHS[step](text, argument)


def _text(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str | bytes | os.PathLike):
        return os.fsdecode(value)
    hint = ': choose an entry by item["..."]' if isinstance(value, Mapping) else ""
    raise TypeError(f"{describe(value)} is not a path{hint}")


def _name(path: str, _argument: object = None) -> str:
    return os.path.basename(path.rstrip("/"))


def _with_name(path: str, name: str) -> str:
    path = path.rstrip("/")
    if not path:
        raise ValueError("the path has no name")
    return os.path.join(os.path.dirname(path), name)


_OF_PATHS: Final[dict[str, Callable[[str, Any], str]]] = {
    "name": _name,
    "stem": lambda path, _: os.path.splitext(_name(path))[0],
    "suffix": lambda path, _: os.path.splitext(_name(path))[1],
    "parent": lambda path, _: os.path.dirname(path.rstrip("/")) or ("/" if path.startswith("/") else "."),
    "with_suffix": lambda path, suffix: _with_name(path, os.path.splitext(_name(path))[0] + suffix),
    "with_name": _with_name,
    "/": os.path.join,
}
"""Steps from a path to another text; each takes the path and the argument of the step."""
