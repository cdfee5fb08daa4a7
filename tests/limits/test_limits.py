"""`Limits`: what a program finds set when it begins, who keeps what, and that no cgroup is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from tests.support.hosts import PYTHON_OPTIONS
from tests.support.processes import gone, sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    PIPE,
    ExitError,
    Limits,
    MemoryLimitExceeded,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    StartError,
    command,
    function,
    ignore_error,
    is_error,
)
from penstock.limits import cgroup_pool
from penstock.system import cgroups, features
from penstock.system.cgroups import Cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fixtures import SetTiming

    from penstock import Event

pytestmark = pytest.mark.slow


MB = 1_000_000
HUNGRY = f"data = b'x' * {300 * MB}"


def python(program: str, **options: Any) -> Pipeline:
    """Make a stage of a Python program; without site it starts fast."""
    return command(sys.executable, "-I", "-S", "-c", program, name="python", **options)


def groups_of(name: str) -> set[str]:
    """The folders of all cgroups whose own name has `name` in it."""
    found: set[str] = set()
    for tree in cgroups.trees():
        for parent in tree.parents():
            found |= {str(path) for path in Path(parent).glob(f"penstock-{name}-{os.getpid()}-*")}
    return found


@pytest.fixture
def _memory_group() -> None:
    """Skip where no cgroup can be made that keeps memory."""
    cgroup, missing = cgroups.make(f"penstock-probe-{os.getpid()}", {"memory": 10**9}, cgroups.trees())
    if cgroup is not None:
        cgroup.remove()
    if cgroup is None or missing:
        pytest.skip(f"no cgroup that keeps memory can be made here: {missing}")


@pytest.fixture
def _no_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sandbox."""
    monkeypatch.setattr(features, "CGROUPS", False)


@pytest.fixture(autouse=True)
def _none_waits() -> Iterator[None]:
    """Nothing is kept from one test to the next."""
    yield
    cgroup_pool.clear()
    assert groups_of("*") == set()


SEEN = "ulimit -n; ulimit -t; ulimit -f; nice"


def test_a_program_begins_with_its_limits() -> None:
    """Its first instruction finds them."""
    limits = Limits(open_files=77, cpu_time=9, file_size=512 * 20, nice=2, cgroup="never")
    expected = f"77\n9\n20\n{os.nice(0) + 2}\n"
    assert sh(SEEN, limits=limits).text() == expected
    assert sh(SEEN).text(limits=limits) == expected
    assert sh(SEEN).text() != expected


def test_the_innermost_value_of_each_limit_applies() -> None:
    """Field by field: the pipeline's, the nested pipeline's, the command's own."""
    show = "cat; ulimit -n; ulimit -t"
    inner = Pipeline(sh(show), sh(show, limits=Limits(open_files=30)), limits=Limits(cpu_time=20))
    outer = Pipeline(sh(show), inner, limits=Limits(open_files=40, cpu_time=10))
    assert outer.text().split() == ["40", "10", "40", "20", "30", "20"]


def test_a_stage_in_python_has_no_limits_and_runs_beside_those_that_have() -> None:
    """It runs in the host itself."""
    double = function(lambda _ctx, stdin, stdout: stdout.write(stdin.read() * 2))
    assert (sh("ulimit -n") | double).text(limits=Limits(open_files=50)) == "50\n50\n"


def test_a_refusal_of_the_kernel_shows_as_the_programs_own_failure(tmp_path: Path) -> None:
    """SIGXFSZ, SIGXCPU, and an allocation that fails."""
    target = tmp_path / "file"
    result = command("head", "-c", "5000", "/dev/zero", limits=Limits(file_size=1000)).run(
        check=False, stdout=target
    )
    assert result.stages[0].signal == signal.SIGXFSZ
    assert target.stat().st_size == 1000
    result = python("while True: pass", limits=Limits(cpu_time=1)).run(check=False)
    assert result.stages[0].signal == signal.SIGXCPU
    result = python(HUNGRY, limits=Limits(memory="100MB", cgroup="never")).run(check=False)
    assert isinstance(result.stages[0].error, ExitError)
    assert b"MemoryError" in result.stages[0].stderr


def test_a_start_that_fails_says_the_same_as_without_limits(tmp_path: Path) -> None:
    """Program, format and folder; and what cannot be set says what it is."""
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"no magic")
    wrong.chmod(0o755)
    stages: list[tuple[str, dict[str, Any]]] = [
        ("no-such-program", {}),
        (str(wrong), {}),
        ("true", {"cwd": tmp_path / "missing"}),
    ]
    for program, options in stages:
        texts = []
        for limits in (None, Limits(open_files=50, cgroup="never")):
            with pytest.raises(StartError) as caught:
                command(program, limits=limits, **options).run()
            texts.append((str(caught.value), type(caught.value.cause)))
        assert texts[0] == texts[1]


@pytest.mark.usefixtures("_memory_group")
def test_a_kill_for_memory_is_a_memory_limit_exceeded() -> None:
    """Not a bare SIGKILL; with an event."""
    events: list[Event] = []
    with pytest.raises(PipelineError) as caught:
        python(HUNGRY, limits=Limits(memory="50MB")).run(on_event=events.append)
    error, result = caught.value.cause, caught.value.result
    assert isinstance(error, MemoryLimitExceeded)
    assert error.limit == 50 * MB
    assert error.used >= 49 * MB
    assert result is not None
    assert result.returncodes == (-signal.SIGKILL,)
    assert [event.error for event in events if event.kind == "memory-limit"] == [error]
    assert ignore_error(python(HUNGRY, limits=Limits(memory="50MB")), is_error(MemoryLimitExceeded)).run().ok


@pytest.mark.usefixtures("_memory_group")
def test_a_command_whose_child_is_killed_for_memory_is_told_so_too() -> None:
    """Its own exit status is only what it made of that."""
    hungry = f'{sys.executable} -I -S -c "{HUNGRY}" || exit 5'
    result = sh(hungry, limits=Limits(memory="50MB")).run(check=False)
    assert isinstance(result.stages[0].error, MemoryLimitExceeded)


@pytest.mark.usefixtures("_memory_group")
def test_commands_of_a_limited_pipeline_share_its_group() -> None:
    """Their sum counts; who fails beside a killed one keeps its own error."""
    show = "grep memory: /proc/self/cgroup || cat /proc/self/cgroup"
    pipeline = Pipeline(sh(show), sh(f"cat; {show}"), limits=Limits(memory="500MB", name="shared"))
    first, second = pipeline.text().split()
    assert first == second
    assert "penstock-shared-" in first
    own = Pipeline(sh(show), sh(f"cat; {show}", limits=Limits(memory="90MB")), limits=Limits(memory="500MB"))
    first, second = own.text().split()
    assert first != second
    failing = Pipeline(python(HUNGRY), sh("cat >/dev/null; exit 3"), limits=Limits(memory="50MB"))
    errors = [stage.error for stage in failing.run(check=False).stages]
    assert [type(error) for error in errors] == [MemoryLimitExceeded, ExitError]


@pytest.mark.usefixtures("_memory_group")
def test_a_cgroup_is_reused_for_the_same_name_and_limits_until_it_expires(
    set_timing: SetTiming,
) -> None:
    """Other limits have another; an earlier run's killed process is not blamed on a later one."""
    limits = Limits(memory="50MB", name="pool")
    assert python(HUNGRY, limits=limits).run(check=False).stages[0].signal == signal.SIGKILL
    first = groups_of("pool")
    assert first
    assert isinstance(sh("kill -KILL $$", limits=limits).run(check=False).stages[0].error, ExitError)
    assert groups_of("pool") == first
    set_timing(cgroup_idle_s=0.05)
    assert command("true", limits=Limits(memory="60MB", name="pool")).run().ok
    other = groups_of("pool") - first
    until(lambda: not groups_of("pool") & other)


@pytest.mark.usefixtures("_memory_group")
def test_no_more_than_a_few_groups_wait_and_none_is_in_use_twice() -> None:
    """Twenty at once have twenty."""
    limits = Limits(memory="100MB", name="many")
    runs = [command("sleep", "1000", limits=limits).start() for _ in range(20)]
    names = {Path(folder).name for folder in groups_of("many")}
    assert len(names) == 20
    for run in runs:
        run.cancel()
    for run in runs:
        run.wait(check=False)
    until(lambda: len({Path(folder).name for folder in groups_of("many")}) <= 8)


@pytest.mark.usefixtures("_memory_group")
def test_a_group_without_a_name_is_gone_when_its_run_is() -> None:
    """Whoever steers the run, and however it ends."""
    limits = Limits(memory="100MB")
    show = "cat /proc/self/cgroup"
    assert "penstock-run-" in sh(show, limits=limits).text()
    assert groups_of("run") == set()
    assert sh("exit 3", limits=limits).start().wait(check=False).returncodes == (3,)
    assert groups_of("run") == set()
    with pytest.raises(StartError):
        (sh("sleep 1000") | command("no-such-program")).run(limits=limits)
    assert groups_of("run") == set()


@pytest.mark.gotcha(5)
@pytest.mark.usefixtures("_memory_group")
@pytest.mark.parametrize("share", [False, True], ids=["its own", "shared"])
@pytest.mark.parametrize("leftover", ["ignore", "report", "kill"])
def test_processes_left_in_a_group_are_released_or_killed(
    leftover: Any,
    share: bool,  # noqa: FBT001
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """An orphan in a session of its own, which nothing but the group knows of."""
    pids = tmp_path / "pid"
    script = f"(setsid sh -c 'echo $$ >{pids}.new; mv {pids}.new {pids}; exec sleep 1000' >/dev/null 2>&1 &)"
    script += f"; while ! [ -e {pids} ]; do sleep 0.01; done"
    events: list[Event] = []
    options: dict[str, Any] = {"limits": Limits(memory="100MB", name="left"), "on_leftover": leftover}
    stage = Pipeline(sh(script), sh("cat"), **options) if share else sh(script, **options)
    assert stage.run(on_event=events.append).ok
    pid = int(pids.read_text())
    told = [event.context["pids"] for event in events if event.kind == "leftover"]
    assert told == ([] if leftover == "ignore" else [[pid]])
    if leftover == "kill":
        assert gone(pid)
    else:
        request.addfinalizer(lambda: os.kill(pid, signal.SIGKILL))
        os.kill(pid, 0)
        assert "penstock" not in Path(f"/proc/{pid}/cgroup").read_text()


@pytest.mark.gotcha(5)
@pytest.mark.usefixtures("_memory_group")
def test_a_cancelled_command_takes_all_in_its_group_along(tmp_path: Path) -> None:
    """Orphans included, which no walk can find."""
    pids = tmp_path / "pid"
    script = f"(setsid sh -c 'trap \"\" TERM; echo $$ >{pids}; echo; exec sleep 1000' &); exec sleep 1000"
    run = sh(script, limits=Limits(memory="100MB")).start(stdout=PIPE, grace=0.2)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)
    assert gone(int(pids.read_text()))


@pytest.mark.usefixtures("_no_cgroups")
def test_without_cgroups_prefer_says_what_is_used_instead() -> None:
    """And uses it; nothing is said where nothing is missing."""
    events: list[Event] = []
    limits = Limits(memory="100MB", cpu=0.5, open_files=50)
    assert int(sh("ulimit -d", limits=limits).text(on_event=events.append)) == 100 * MB // 1024
    (event,) = [event for event in events if event.kind == "limits"]
    assert event.context["instead"] == {"memory": "RLIMIT_DATA for each process", "cpu": None}
    assert "RLIMIT_DATA" in event.message
    events.clear()
    command("true", limits=Limits(open_files=50)).run(on_event=events.append)
    command("true", limits=Limits(memory="1GB", cgroup="never")).run(on_event=events.append)
    assert "limits" not in [event.kind for event in events]


@pytest.mark.usefixtures("_no_cgroups")
def test_without_cgroups_require_is_a_start_error_that_says_so() -> None:
    """Before the program has begun."""
    for limits in (Limits(memory="1GB", cgroup="require"), Limits(cgroup="require")):
        with pytest.raises(StartError, match="a cgroup is required"):
            (command("cat") | command("true", limits=limits)).run()


@pytest.mark.usefixtures("_memory_group")
def test_a_required_group_that_keeps_only_a_part_is_given_back() -> None:
    """Nothing is left of it."""
    if cgroups.make("penstock-never", {"memory_high": 1}, [])[1] and any(
        (Path(tree.own) / "memory.high").exists() for tree in cgroups.trees()
    ):
        pytest.skip("memory.high can be kept here")
    with pytest.raises(StartError, match="memory_high"):
        command("true", limits=Limits(memory="1GB", memory_high="1GB", cgroup="require", name="part")).run()


HOST = """
import json, os, sys, glob
from penstock import Limits, command
from penstock.system import cgroups
command("true", limits=Limits(memory="100MB", name="exit")).run()
command("sh", "-c", "setsid sleep 1000 & sleep 1000", limits=Limits(memory="100MB", name="exit")).start()
found = [folder for tree in cgroups.trees() for parent in tree.parents()
         for folder in glob.glob(f"{parent}/penstock-exit-{os.getpid()}-*")]
print(json.dumps(found))
"""


@pytest.mark.gotcha(26)
@pytest.mark.usefixtures("_memory_group")
def test_the_end_of_the_process_leaves_no_group() -> None:
    """Neither one that waits nor one that is in use."""
    done = subprocess.run([sys.executable, "-c", HOST], capture_output=True, check=True)
    folders = json.loads(done.stdout)
    assert len({Path(folder).name for folder in folders}) >= 1
    assert [folder for folder in folders if Path(folder).exists()] == []
    assert done.stderr == b""


FORKED = """
import json, os, sys
from pathlib import Path
from penstock import DEVNULL, PIPE, Limits, command
from penstock.system import cgroups
limits = Limits(memory="100MB", name="fork")
def groups(pid):
    return sorted({folder.name for tree in cgroups.trees() for parent in tree.parents()
                   for folder in Path(parent).glob(f"penstock-fork-{pid}-*")})
command("true", limits=Limits(memory="90MB", name="fork")).run()
run = command("cat", limits=limits).start(stdin=PIPE, stdout=DEVNULL)
before = groups(os.getpid())
child = os.fork()
if child == 0:
    command("true", limits=limits).run()
    sys.exit(0 if len(groups(os.getpid())) == 1 else 7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with run:
    pass
print(json.dumps([status, len(before), groups(os.getpid()) == before, groups(child)]))
"""


@pytest.mark.gotcha(25)
@pytest.mark.usefixtures("_memory_group")
def test_a_forked_copy_leaves_the_groups_of_its_parent_alone() -> None:
    """It makes and removes its own."""
    done = subprocess.run([sys.executable, *PYTHON_OPTIONS, "-c", FORKED], capture_output=True, check=True)
    assert json.loads(done.stdout) == [0, 2, True, []]
    assert done.stderr == b""


SCARCE = """
import os, resource
from penstock import Limits, PipelineError, StartError, command
stage = command("true", limits=Limits(memory="100MB", open_files=64, name="scarce"))
stage.run()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = sorted(os.listdir("/proc/self/fd"))
failed = 0
for room in range(20):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + room, hard))
    try:
        stage.run()
    except (StartError, OSError) as error:
        failed += 1
        assert "open files" in str(error), error
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert sorted(os.listdir("/proc/self/fd")) == before
assert stage.run().ok
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("clean", failed > 0)
"""


@pytest.mark.gotcha(28)
def test_a_limited_command_without_descriptors_fails_and_leaks_nothing() -> None:
    """Whatever number is left when it begins: the launcher needs more than a plain start."""
    done = subprocess.run([sys.executable, "-c", SCARCE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("clean True\n", "")


KILLED = """
import os, signal, sys
with open(sys.argv[1], "a") as events:
    events.write("oom_kill 1\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_version_2_from_end_to_end_in_a_hierarchy_of_the_tests_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are written before the program begins, it is a member, and its kill is told from others."""
    root = tmp_path / "unified"
    root.mkdir()
    Hierarchy(root, monkeypatch)
    limits = Limits(memory="50MB", memory_high="40MB", cpu=0.5, processes=9, cgroup="require", name="fake")
    show = 'cd "$0"/penstock-fake-* && cat memory.max memory.high cpu.max pids.max cgroup.procs'
    shown = command("sh", "-c", show, root, limits=limits).text()
    assert shown == "50000000\n40000000\n50000 100000\n9\n0"
    assert len(list(root.iterdir())) == 1
    cgroup_pool.clear()
    assert list(root.iterdir()) == []
    unnamed = Limits(memory="50MB")
    sh_kill = f'exec {sys.executable} -I -S -c "$1" "$0"/penstock-run-*/memory.events'
    result = command("sh", "-c", sh_kill, root, KILLED, limits=unnamed).run(check=False)
    error = result.stages[0].error
    assert isinstance(error, MemoryLimitExceeded)
    assert (error.limit, error.used) == (50 * MB, 60 * MB)
    plain = command("sh", "-c", "kill -KILL $$", limits=unnamed).run(check=False)
    assert isinstance(plain.stages[0].error, ExitError)
    assert list(root.iterdir()) == []


class Hierarchy:
    """A folder that behaves as a mounted cgroup v2 does where that matters here."""

    FILES: ClassVar = {
        "cgroup.procs": "",
        "cgroup.kill": "",
        "memory.max": "",
        "memory.high": "",
        "memory.swap.max": "",
        "memory.oom.group": "",
        "memory.events": "",
        "memory.peak": "60000000\n",
        "cpu.max": "",
        "pids.max": "",
    }

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tree = cgroups.Tree(2, frozenset(), str(root), str(root))
        self._root, self._mkdir, self._rmdir = root, os.mkdir, os.rmdir
        monkeypatch.setattr(cgroups, "trees", lambda: [tree])
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)
        monkeypatch.setattr(cgroups, "_write", self.write)
        monkeypatch.setattr(
            Cgroup, "members", lambda _cgroup: []
        )  # who joins writes a 0, and is not seen to leave

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        """A group has its files from the first."""
        self._mkdir(path, mode)
        if Path(path).parent == self._root:
            for name, text in self.FILES.items():
                Path(path, name).write_text(text)

    def rmdir(self, path: Any) -> None:
        """They are no hindrance."""
        if Path(path).parent == self._root:
            for file in Path(path).iterdir():
                file.unlink()
        self._rmdir(path)

    def write(self, path: str, text: str) -> None:
        """A value is replaced."""
        if not Path(path).exists():
            raise FileNotFoundError(2, "no such file", path)
        Path(path).write_text(text + "\n")


def test_many_threads_start_limited_commands_at_once() -> None:
    """Each finds its own limits."""
    wrong: list[object] = []

    def work(place: int) -> None:
        for _ in range(2):
            shown = sh("ulimit -n", limits=Limits(open_files=100 + place, memory="200MB")).text()
            if shown != f"{100 + place}\n":
                wrong.append(shown)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (TypeError, lambda: command("true", limits=5)),  # type: ignore[arg-type]
        (TypeError, lambda: Pipeline(command("true"), limits={"memory": 5})),  # type: ignore[arg-type]
        (TypeError, lambda: command("true").run(limits="1GB")),  # type: ignore[arg-type]
    ],
)
def test_limits_of_another_type_are_a_type_error(error: type[Exception], make: Callable[[], object]) -> None:
    """Before anything starts."""
    with pytest.raises(error, match="limits must be a Limits"):
        make()


def test_discarded_output_and_limits_go_together() -> None:
    """A run without any stream of the caller's."""
    assert command("true", limits=Limits(open_files=64)).start(stdout=DEVNULL).wait(DEADLINE).ok
