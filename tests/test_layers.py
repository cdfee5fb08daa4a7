"""The walls of the house: imports run one way, and each package keeps to its trade.

Everything here is read from the syntax tree, so an import is found wherever it stands: in a function, and
under TYPE_CHECKING too. `check_*` functions return findings as `file:line: sentence`; the package must have
none, and the last tests show that each check does find what it is there for.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

# The order of the packages: each may import itself and those before it. Packages of one rank may not import
# each other.
ORDER = (
    ("core",),
    ("system",),
    ("streams",),
    ("runtime",),
    ("limits", "progress"),
    ("profiling",),
    ("stages",),
    ("aio", "isolation"),
    ("engine",),
    ("jobs",),
    ("api",),
    ("",),  # `penstock` itself, which only re-exports
    ("testing", "logging", "otel"),  # modules of their own names, which users import
    ("cli", "examples"),
    ("__main__",),
)
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
APPLICATIONS = frozenset({"cli", "examples", "__main__"})

# What applications may use: the package itself, its test helpers, and their own neighbours.
PUBLIC_MODULES = frozenset({"penstock", "penstock.testing"})
NEIGHBOURS = {"cli": "penstock.cli.", "examples": "penstock.examples.", "__main__": "penstock.cli."}

# core/ decides and does no I/O: no modules that block, start, or open things ...
IO_MODULES = frozenset({
    "_thread", "asyncio", "concurrent", "fcntl", "mmap", "multiprocessing", "pathlib", "select", "selectors",
    "shutil", "socket", "subprocess", "tempfile", "threading",
})  # fmt: skip
# ... but the public `ExitError` is a `subprocess.CalledProcessError` ...
# ... and the table of secrets has a lock, and digits that nobody can guess ...
IO_MODULES_ALLOWED: dict[str, set[str]] = {
    "penstock.core.errors": {"subprocess"},
    "penstock.core.placeholders": {"_thread"},
}
OS_ALLOWED = {"penstock.core.placeholders": {"urandom"}}
# ... and of `os` only what computes.
PURE_OS = frozenset({"PathLike", "fsdecode", "fsencode", "fspath", "path", "sep", "strerror"})

# To ask one of these what it has is to ask which platform this is.
PLATFORM_MODULES = frozenset({"errno", "fcntl", "os", "select", "signal", "socket", "sys", "time"})
PLATFORM_NAMES = frozenset(
    {("os", "name"), ("os", "uname"), ("sys", "platform"), ("sys", "getwindowsversion")}
)

MAX_LINES = 400


class Import(NamedTuple):
    """One imported module, where, and whether the import runs when the importing module is imported."""

    module: str
    line: int
    at_import: bool


class Module:
    """A source file: its dotted name, its syntax tree and its imports."""

    def __init__(
        self, name: str, text: str, path: str, known: frozenset[str], *, package: bool = False
    ) -> None:
        self.name = name
        self.path = path
        self.lines = len(text.splitlines())
        self.tree = ast.parse(text, path)
        self.package = name if package else name.rpartition(".")[0]
        self.imports = list(self._imports(self.tree, known, at_import=True))

    @property
    def part(self) -> str:
        """The package within `penstock` that the module belongs to, such as `core`; "" for `penstock`."""
        return part(self.name)

    def at(self, line: int) -> str:
        """Return a place that an editor can jump to."""
        return f"{self.path}:{line}"

    def _imports(self, node: ast.AST, known: frozenset[str], *, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = self._base(node)
            for alias in node.names:
                module = f"{base}.{alias.name}"
                yield Import(module if module in known else base, node.lineno, at_import)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            for guarded in node.body:
                yield from self._imports(guarded, known, at_import=False)
            for other in node.orelse:
                yield from self._imports(other, known, at_import=at_import)
        else:
            deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from self._imports(child, known, at_import=at_import and not deferred)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parent = self.package.split(".")
        parent = parent[: len(parent) - node.level + 1]
        return ".".join([*parent, node.module] if node.module else parent)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def part(module: str) -> str:
    """Return the package within `penstock` that a module belongs to; "" for `penstock` itself."""
    return module.partition(".")[2].partition(".")[0]


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def load() -> list[Module]:
    """Read every module of the package, once for all checks."""
    paths = sorted(SOURCE.rglob("*.py"))
    known = frozenset(map(_name, paths))
    return [
        Module(
            _name(path),
            path.read_text(encoding="utf-8"),
            str(path.relative_to(ROOT)),
            known,
            package=path.name == "__init__.py",
        )
        for path in paths
    ]


def _ours(module: str) -> bool:
    return module == "penstock" or module.startswith("penstock.")


def check_places(modules: list[Module]) -> list[str]:
    """Find modules without a package, and packages without a place in the order."""
    return [
        f"{module.at(1)}: {module.name} is in no package of ORDER"
        for module in modules
        if module.part not in RANKS
    ]


def check_direction(modules: list[Module]) -> list[str]:
    """Find imports of a package that comes later in the order, or beside the importing one."""
    return [
        f"{module.at(imported.line)}: {module.name} imports {imported.module}, which comes later in ORDER"
        for module in modules
        for imported in module.imports
        if _ours(imported.module) and not _may_import(module.part, part(imported.module))
    ]


def _may_import(importer: str, imported: str) -> bool:
    # The package itself loads `api` when a name is asked for, so that importing it is no import upwards.
    return importer == imported or RANKS.get(imported, -1) < RANKS.get(importer, len(ORDER))


def check_cycles(modules: list[Module]) -> list[str]:
    """Find chains of imports that run at import time and lead back to where they began."""
    edges = {
        module.name: {found.module for found in module.imports if found.at_import and _ours(found.module)}
        for module in modules
    }
    findings: list[str] = []
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            findings.append(f"import cycle: {' -> '.join([*trail[trail.index(name) :], name])}")
        elif name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, [*trail, name])
            done.add(name)

    for name in sorted(edges):
        visit(name, [])
    return findings


def check_core(modules: list[Module]) -> list[str]:
    """Find I/O in core/: a module that does it, a function of `os` that asks the kernel, or `open`."""
    findings = []
    for module in modules:
        if module.part != "core":
            continue
        forbidden = IO_MODULES - IO_MODULES_ALLOWED.get(module.name, set())
        findings += [
            f"{module.at(imported.line)}: core/ decides without I/O, and {imported.module} does I/O"
            for imported in module.imports
            if imported.module.partition(".")[0] in forbidden
        ]
        pure = PURE_OS | OS_ALLOWED.get(module.name, set())
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and node.id == "open":
                findings.append(f"{module.at(node.lineno)}: core/ decides without I/O, and open() does I/O")
            elif isinstance(node, ast.Attribute) and _is_name(node.value, "os") and node.attr not in pure:
                findings.append(f"{module.at(node.lineno)}: core/ decides without I/O: os.{node.attr}")
    return findings


def _is_name(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def check_platform(modules: list[Module]) -> list[str]:
    """Find questions about the platform outside system/."""
    findings = []
    for module in modules:
        if module.part == "system":
            continue
        findings += [
            f"{module.at(imported.line)}: only system/ asks which platform this is, and `platform` tells"
            for imported in module.imports
            if imported.module == "platform"
        ]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if (node.value.id, node.attr) in PLATFORM_NAMES:
                    what = f"{node.value.id}.{node.attr}"
                    findings.append(
                        f"{module.at(node.lineno)}: only system/ asks which platform this is: {what}"
                    )
            elif isinstance(node, ast.Call) and _is_name(node.func, "hasattr", "getattr") and node.args:
                asked = node.args[0]
                if isinstance(asked, ast.Name) and asked.id in PLATFORM_MODULES:
                    findings.append(f"{module.at(node.lineno)}: only system/ asks what {asked.id} has")
    return findings


def check_public(modules: list[Module]) -> list[str]:
    """Find applications that go past the public names."""
    return [
        f"{module.at(imported.line)}: {module.part}/ uses public names only, not {imported.module}"
        for module in modules
        if module.part in APPLICATIONS
        for imported in module.imports
        if _ours(imported.module)
        and imported.module not in PUBLIC_MODULES
        and not f"{imported.module}.".startswith(NEIGHBOURS[module.part])
    ]


def check_length(modules: list[Module]) -> list[str]:
    """Find modules that are too long to be read in one go."""
    return [
        f"{module.at(MAX_LINES)}: {module.lines} lines; a module has {MAX_LINES} at most"
        for module in modules
        if module.lines > MAX_LINES
    ]


def check_groups(modules: list[Module]) -> list[str]:
    """Find signals to process groups beside `process.signal_group`, which refuses our own group.

    A group is signalled by killpg(), and by kill() of 0 or of a negative number. Only system/ may call
    kill(), and never with an expression that may be negative. The guardian, a program of its own that imports
    nothing of the package, has a function of the same name.
    """
    findings = []
    for module in modules:
        allowed = {
            id(node)
            for function in ast.walk(module.tree)
            if isinstance(function, ast.FunctionDef) and function.name == "signal_group"
            if module.name in ("penstock.system.process", "penstock.system.guardian_main")
            for node in ast.walk(function)
        }
        for node in ast.walk(module.tree):
            if id(node) in allowed:
                continue
            if isinstance(node, ast.Attribute | ast.Name) and "killpg" in (
                getattr(node, "attr", None),
                getattr(node, "id", None),
            ):
                findings.append(f"{module.at(node.lineno)}: only signal_group() signals a group")
            elif isinstance(node, ast.ImportFrom) and any(
                alias.name in ("kill", "killpg") for alias in node.names
            ):
                findings.append(
                    f"{module.at(node.lineno)}: kill() and killpg() are called by their full names"
                )
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "kill"
                and (_is_name(node.func.value, "os") or _is_name(node.func.value, "posix"))
                and (module.part != "system" or not isinstance(node.args[0], ast.Name | ast.Attribute))
            ):
                findings.append(f"{module.at(node.lineno)}: kill() of 0 or of a negative number is a group's")
    return findings


CHECKS = [
    check_places,
    check_direction,
    check_cycles,
    check_core,
    check_platform,
    check_public,
    check_length,
    check_groups,
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_package_keeps_the_rule(check: type) -> None:
    """No module of the package breaks the rule."""
    findings = check(load())
    assert not findings, "\n" + "\n".join(findings)


def test_the_package_only_re_exports() -> None:
    """`penstock/__init__.py` defines nothing but what it takes to hand out names."""
    (package,) = [module for module in load() if module.name == "penstock"]
    allowed_functions = {"__getattr__", "__dir__"}
    for node in package.tree.body:
        assert isinstance(
            node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.AnnAssign | ast.If
        ) or (isinstance(node, ast.FunctionDef) and node.name in allowed_functions), (
            f"{package.at(node.lineno)}: __init__ only re-exports"
        )


def _module(name: str, text: str, *known: str) -> Module:
    return Module(name, text, "x.py", frozenset({name, *known}))


@pytest.mark.parametrize(
    ("check", "name", "text"),
    [
        (check_direction, "penstock.core.x", "import penstock.system.fds"),
        (check_direction, "penstock.core.x", "from penstock.system import fds"),
        (check_direction, "penstock.core.x", "from penstock import streams"),
        (check_direction, "penstock.core.x", "from ..system import fds"),
        (check_direction, "penstock.streams.x", "def f():\n    from penstock.runtime import supervisor"),
        (check_direction, "penstock.streams.x", "if TYPE_CHECKING:\n    from penstock.api.run import Run"),
        (check_direction, "penstock.stages.x", "import penstock"),
        (
            check_direction,
            "penstock.api.run",
            "try:\n    import penstock.cli.main\nexcept ImportError:\n    pass",
        ),
        (check_cycles, "penstock.api.run", "from penstock.api.run import Run"),
        (check_core, "penstock.core.x", "import select"),
        (check_core, "penstock.core.x", "import subprocess"),
        (check_core, "penstock.core.x", "def f():\n    from concurrent.futures import Executor"),
        (check_core, "penstock.core.x", "import os\nos.getpid()"),
        (check_core, "penstock.core.x", "open('x')"),
        (check_platform, "penstock.streams.x", "import sys\nif sys.platform == 'linux':\n    pass"),
        (check_platform, "penstock.streams.x", "import os\nhasattr(os, 'splice')"),
        (check_platform, "penstock.streams.x", "import os\ngetattr(os, 'splice', None)"),
        (check_platform, "penstock.streams.x", "import platform"),
        (check_public, "penstock.cli.x", "from penstock.core.errors import ExitError"),
        (check_public, "penstock.examples.x", "import penstock.api.run"),
        (check_public, "penstock.examples.x", "from penstock.cli import main"),
        (check_length, "penstock.api.run", "\n" * 401),
        (check_groups, "penstock.system.x", "def signal_group(group):\n    os.killpg(group, 9)"),
        (check_groups, "penstock.system.process", "def f(group):\n    os.killpg(group, 9)"),
        (check_groups, "penstock.system.process", "from os import killpg"),
        (check_groups, "penstock.system.process", "send = os.killpg"),
        (check_groups, "penstock.system.x", "os.kill(0, 9)"),
        (check_groups, "penstock.system.x", "os.kill(-1, 9)"),
        (check_groups, "penstock.system.x", "os.kill(-group, 9)"),
        (check_groups, "penstock.stages.x", "os.kill(pid, 9)"),
    ],
)
def test_each_check_finds_what_it_is_there_for(check: type, name: str, text: str) -> None:
    """A module that breaks the rule is found, with its place."""
    known = ("penstock", "penstock.streams", "penstock.system.fds", "penstock.core.errors")
    (finding,) = check([_module(name, text, *known)])
    assert finding.startswith(("x.py:", "import cycle: penstock.api.run -> penstock.api.run"))


def test_a_cycle_over_several_modules_is_shown_whole() -> None:
    """The chain is spelled out, and imports that do not run at import time are no part of one."""
    known = ("penstock.a", "penstock.b", "penstock.c")
    modules = [
        _module("penstock.a", "from penstock import b", *known),
        _module("penstock.b", "import penstock.c", *known),
        _module("penstock.c", "from penstock.a import f", *known),
    ]
    assert check_cycles(modules) == ["import cycle: penstock.a -> penstock.b -> penstock.c -> penstock.a"]
    modules[2] = _module("penstock.c", "def f():\n    from penstock.a import f", *known)
    assert check_cycles(modules) == []


@pytest.mark.parametrize(
    ("check", "name", "text"),
    [
        (check_direction, "penstock.api.run", "from penstock.core.errors import ExitError"),
        (check_direction, "penstock.cli.main", "import penstock"),
        (check_core, "penstock.core.errors", "import subprocess"),
        (check_core, "penstock.core.x", "import os\nos.strerror(1)"),
        (check_core, "penstock.streams.x", "import select"),
        (check_platform, "penstock.system.x", "import sys\nsys.platform"),
        (check_public, "penstock.cli.x", "from penstock.cli import main\nimport penstock.testing"),
        (check_direction, "penstock.__main__", "from penstock.cli.main import main"),
        (check_public, "penstock.__main__", "from penstock.cli.main import main"),
        (check_groups, "penstock.system.process", "def signal_group(group):\n    os.killpg(group, 9)"),
        (check_groups, "penstock.system.x", "os.kill(self.pid, 9)"),
    ],
)
def test_allowed_imports_are_not_findings(check: type, name: str, text: str) -> None:
    """The checks leave alone what the rules allow."""
    assert check([_module(name, text, "penstock.core.errors", "penstock.cli.main")]) == []
