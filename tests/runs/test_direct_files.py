"""A branch that is only a file: a program gets the file itself, where that is the same as a copy into it."""

from __future__ import annotations

import errno
import os
import pty
import re
import socket
import stat
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.hosts import others_may_read
from tests.support.processes import gone
from tests.support.system_calls import failing

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    Arg,
    ExitError,
    Limits,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    Result,
    StartError,
    appending,
    atomic,
    command,
    function,
    reading,
    route,
    shared,
    tee,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.hosts import Host
    from tests.support.processes import Strays

ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""
DATA = b"".join(b"%d\n" % number for number in range(100_000))
OLD = b"an old text, longer than what is written\n"


def kinds(pipeline: Any, **options: Any) -> dict[tuple[str, str], str]:
    """Return the carrier of each edge behind a stage, by its ends."""
    plan = pipeline.explain(**options)
    return {(str(edge.source), edge.target): edge.kind for edge in plan.edges if edge.source != "stdin"}


def is_direct(pipeline: Any, **options: Any) -> bool:
    """Whether no relay stands behind a command; what was planned is what ran."""
    plan = pipeline.explain(**options)
    return not any(node.kind == "relay" for node in plan.nodes)


def run(pipeline: Any, **options: Any) -> Result:
    """Run it, and return the result of a failure as well."""
    result: Result = pipeline.run(**{"stdout": DEVNULL, "check": False, "timeout": ENDS_S, **options})
    return result


def says(script: str, *args: Any) -> Any:
    """Return a command that runs a script, with the arguments as $0, $1 and so on."""
    return command("sh", "-c", script, *args)


@pytest.mark.parametrize("kind", [str, Path, atomic], ids=["str", "Path", "atomic"])
def test_the_program_has_the_file_itself(kind: Any, tmp_path: Path) -> None:
    """Not a pipe: the kernel says so, and it is the file that stands there afterwards."""
    path = tmp_path / "out"
    program = says('stat -L -c "%F %i" "$0"; echo hello > "$0"', writing(kind(path)))
    assert is_direct(program)
    sort, inode = program.text(timeout=ENDS_S).strip().rsplit(" ", 1)
    assert (sort, int(inode)) == ("regular empty file", path.stat().st_ino)
    assert path.read_bytes() == b"hello\n"


@pytest.mark.parametrize("kind", [str, atomic], ids=["str", "atomic"])
def test_no_pipe_is_made_and_nothing_is_copied(kind: Any, tmp_path: Path) -> None:
    """Every such call of the package would fail."""
    path = tmp_path / "out"
    program = says('seq 100000 > "$0"', writing(kind(path))).replace(stderr=DEVNULL)
    program.run(stdin=DEVNULL, stdout=DEVNULL)  # what is loaded late is there now
    with ExitStack() as calls:
        made = [calls.enter_context(failing(call, errno.EIO, lambda _: True)) for call in ("pipe", "splice")]
        copied = calls.enter_context(failing("write", errno.EIO, lambda _: True))
        result = run(program, stdin=DEVNULL)
    assert result.error is None
    assert [each.calls for each in (*made, copied)] == [0, 0, 0]
    assert path.read_bytes().count(b"\n") == 100_000


def test_exact_bytes_arrive_in_the_place_of_old_ones(tmp_path: Path) -> None:
    """A file is emptied before the start, as the stdout of a run is, whether the program writes or not."""
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(OLD)
    many, part, unused = (writing(path) for path in paths)
    run(command("tee", many), input=DATA)
    run(command("dd", Arg("of=", part), "conv=notrunc", "status=none"), input=b"new")
    run(command("true", unused))
    assert [path.read_bytes() for path in paths] == [DATA, b"new", b""]


def test_the_plan_the_drawings_and_the_result_agree(tmp_path: Path) -> None:
    """One edge from the program to the file, at the port of the argument; nobody has counted its bytes."""
    path = tmp_path / "out"
    program = command("tee", writing(path), writing(command("wc", "-c")), writing(DEVNULL))
    assert kinds(program, stdout=DEVNULL) == {
        ("tee", str(path)): "pass-fd",
        ("tee", "DEVNULL"): "discard",
        ("tee", "writing of tee"): "os-pipe",
        ("writing of tee", "wc"): "os-pipe",
        ("wc", "wc"): "capture",
        ("tee", "stdout"): "discard",
    }
    plan = program.explain()
    for drawing in (plan.to_mermaid(), plan.to_dot()):
        assert drawing.count("writing 1") == drawing.count("writing 2") == drawing.count("writing 3") == 1
    result = run(program, input=DATA)
    found = {(edge.source, edge.target): (edge.kind, edge.bytes, edge.port) for edge in result.edges}
    assert found["tee", str(path)] == ("pass-fd", None, "writing 1")
    assert found["tee", "writing of tee"] == ("os-pipe", len(DATA), "writing 2")
    assert int(result.output("wc")) == len(DATA)
    assert path.read_bytes() == DATA


def test_devnull_is_a_name(tmp_path: Path) -> None:
    """The program opens it by its own name, and inherits no descriptor."""
    shown = tmp_path / "shown"
    program = says('echo "$0" > "$1"; echo x > "$0"', writing(DEVNULL), shown)
    assert is_direct(program)
    assert run(program).error is None
    assert shown.read_text() == "/dev/null\n"


def test_a_program_may_seek_in_it(tmp_path: Path) -> None:
    """Which a pipe does not allow."""
    path = tmp_path / "out"
    script = "import sys; f = open(sys.argv[1], 'w+b'); f.write(b'body'); f.seek(0); f.write(b'B')"
    assert run(command("python3", "-c", script, writing(path))).error is None
    assert path.read_bytes() == b"Body"


def test_a_path_is_relative_to_our_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to that of the command; and a name that begins with a dash is no option."""
    monkeypatch.chdir(tmp_path)
    assert run(command("tee", writing("-a"), cwd="/"), input=b"x").error is None
    assert (tmp_path / "-a").read_bytes() == b"x"


def test_only_its_program_inherits_the_file(tmp_path: Path) -> None:
    """Neither a neighbour nor another branch has it."""
    listing = says("ls /proc/self/fd | wc -l")
    few = int(listing.text())
    program = says('ls /proc/self/fd | wc -l; : "$0"', writing(tmp_path / "out"))
    named = Pipeline(listing, name="branch")
    result = run(program | tee(named) | listing, stdout=CAPTURE)
    assert int(result.output("branch")) == int(result.stdout or b"") == few
    assert int(program.text()) == few + 1


# What keeps its relay.


class Descriptors:
    """Descriptors of a test, which are closed at its end."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def open(self, path: Path, flags: int) -> int:
        """Open a file."""
        number = os.open(path, flags)
        self._open.callback(os.close, number)
        return number

    def close(self) -> None:
        """Close all."""
        self._open.close()


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    """Open files by `descriptors.open`."""
    made = Descriptors()
    yield made
    made.close()


def test_a_descriptor_keeps_its_position_and_its_content(tmp_path: Path, descriptors: Descriptors) -> None:
    """The program writes where the caller stands, and the caller goes on behind it."""
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    number = descriptors.open(path, os.O_RDWR)
    os.lseek(number, 2, os.SEEK_SET)
    program = command("tee", writing(number))
    assert not is_direct(program)
    assert run(program, input=b"ab").error is None
    os.write(number, b"!")
    assert path.read_bytes() == b"01ab!56789"


def test_a_descriptor_at_its_beginning_is_not_cut_either(tmp_path: Path, descriptors: Descriptors) -> None:
    """The program opens the name with O_TRUNC, which means nothing to a pipe."""
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    number = descriptors.open(path, os.O_WRONLY)
    run(command("tee", writing(number)), input=b"ab")
    assert os.lseek(number, 0, os.SEEK_CUR) == 2
    assert path.read_bytes() == b"ab23456789"


def test_a_descriptor_with_o_append_and_appending_go_to_the_end(
    tmp_path: Path, descriptors: Descriptors
) -> None:
    """What stands there already stays."""
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    number = descriptors.open(path, os.O_WRONLY | os.O_APPEND)
    for target in (number, appending(path)):
        program = command("tee", writing(target))
        assert not is_direct(program)
        assert run(program, input=b"new\n").error is None
    assert path.read_bytes() == b"old\nnew\nnew\n"


def test_file_objects_sockets_and_fifos_get_their_bytes(tmp_path: Path) -> None:
    """Each by the relay, in order."""
    left, right = socket.socketpair()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)  # so that nobody waits for the other end
    try:
        with left, right, (tmp_path / "f").open("wb") as file:
            file.write(b"before ")
            for target in (left, file, fifo):
                program = command("tee", writing(target))
                assert not is_direct(program)
                assert run(program, input=b"bytes").error is None
            file.write(b" after")
            assert right.recv(100) == b"bytes"
        assert os.read(held, 100) == b"bytes"
    finally:
        os.close(held)
    assert (tmp_path / "f").read_bytes() == b"before bytes after"


def test_a_terminal_is_not_opened_again() -> None:
    """Another open of a device may be refused, or do something."""
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    try:
        program = command("tee", writing(path))
        assert not is_direct(program)
        assert run(program, input=b"x\n").error is None
        assert os.read(ours, 10) == b"x\r\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_fifo_by_name_and_a_run_that_keeps_its_bytes_have_a_relay(tmp_path: Path) -> None:
    """`via="fifo"` is a FIFO as ever: a program may open it twice, and append."""
    path = tmp_path / "out"
    twice = says('echo a > "$0"; echo b > "$0"', writing(path, via="fifo"))
    assert not is_direct(twice)
    held = says('exec 3> "$0"; echo a > "$0"; echo b > "$0"', writing(path, via="fifo"))
    assert run(held).error is None
    assert path.read_bytes() == b"a\nb\n"
    program = command("tee", writing(path))
    assert not is_direct(program, keep=str(tmp_path / "kept"))
    assert run(program, input=b"x", keep=str(tmp_path / "kept")).error is None
    assert path.read_bytes() == b"x"
    assert {each.read_bytes() for each in (tmp_path / "kept").iterdir()} == {b"x"}


# A file with several outputs.

OTHERS: dict[str, Any] = {
    "a second name": lambda path, link: (command("tee", writing(path), writing(link)), {}),
    "the stdout of the run": lambda path, link: (command("tee", writing(path)), {"stdout": link}),
    "a branch elsewhere": lambda path, link: (command("tee", writing(path)) | tee(link), {}),
}


@pytest.mark.parametrize("exists", [True, False], ids=["exists", "new"])
@pytest.mark.parametrize("linked", ["path", "symlink", "hard link"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_file_that_another_output_writes_to_loses_no_byte(
    other: str,
    linked: str,
    exists: bool,  # noqa: FBT001 - a parameter
    tmp_path: Path,
) -> None:
    """Two positions would overwrite each other; so both write by one."""
    path, link = tmp_path / "out", tmp_path / "link"
    if exists:
        path.write_bytes(OLD)
    if linked == "symlink":
        link.symlink_to(path)
    elif linked == "hard link":
        path.touch()
        link.hardlink_to(path)
    else:
        link = path
    program, options = OTHERS[other](path, link)
    assert not is_direct(program, **options)
    assert run(program, input=DATA, **options).error is None
    assert Counter(path.read_bytes()) == Counter(2 * DATA)  # in chunks that alternate


def test_a_file_that_is_also_stderr_loses_no_byte(tmp_path: Path) -> None:
    """That of the run, and that of the command."""
    path = tmp_path / "out"
    script = 'for n in 1 2 3; do echo out >> "$0"; echo err >&2; done'
    for program in (
        Pipeline(says(script, writing(path)), stderr=path),
        command("sh", "-c", script, writing(path), stderr=str(path)),
    ):
        assert not is_direct(program)
        assert run(program).error is None
        assert sorted(path.read_text().split()) == ["err"] * 3 + ["out"] * 3


def test_our_own_stdout_is_another_output(host: Host) -> None:
    """Also by the names that it has in /dev."""
    program = """
        path = os.environ["TMPDIR"] + "/out"
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), 1)
        for name in (path, "/dev/stdout", "/dev/fd/1"):
            os.write(1, b"before\\n")
            command("tee", writing(name)).run(input=b"x\\n")
            os.write(1, b"after\\n")
        result = open(os.environ["RESULT"], "wb")
        result.write(open(path, "rb").read())
    """
    assert host.run(program).result.split() == ["before", "x", "x", "after"] * 3


def test_one_atomic_file_for_two_arguments(tmp_path: Path) -> None:
    """They share the part, as all outputs do."""
    path = tmp_path / "out"
    program = command("tee", writing(atomic(path)), writing(atomic(path)))
    assert not is_direct(program)
    assert run(program, input=b"x\n").error is None
    assert path.read_bytes() == b"x\n" * 2


def test_devices_without_a_state_may_be_given_twice() -> None:
    """They have no position."""
    program = command("tee", writing("/dev/null"), writing("/dev/null"), writing(DEVNULL), writing(DEVNULL))
    assert is_direct(program)
    assert run(program, input=DATA).error is None


def test_a_source_and_a_branch_that_are_one_file_are_refused(tmp_path: Path) -> None:
    """Before it is emptied."""
    path = tmp_path / "data"
    path.write_bytes(OLD)
    with pytest.raises(ValueError, match="are the same file"):
        command("tee", writing(path)).run(stdin=path)
    assert path.read_bytes() == OLD
    replaced = command("tee", writing(atomic(path)))
    assert run(replaced, stdin=path).error is None
    assert path.read_bytes() == OLD


# Errors.


@pytest.mark.parametrize("kind", [str, atomic], ids=["str", "atomic"])
def test_a_missing_folder_is_a_failed_start_that_names_the_end(kind: Any, tmp_path: Path) -> None:
    """Nothing has begun, and nothing is left."""
    target = kind(tmp_path / "nosuch" / "out")
    program = command("touch", tmp_path / "begun", writing(target))
    assert is_direct(program)
    with pytest.raises(StartError) as caught:
        program.run()
    assert isinstance(caught.value.cause, FileNotFoundError)
    assert str(tmp_path / "nosuch" / "out") in str(caught.value.stage)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_failure_of_who_writes(descriptors: Descriptors) -> None:
    """The program's, by its exit status; behind a pipe that of the relay, by the error of its write."""
    direct = run(command("tee", writing("/dev/full")), input=b"x")
    assert isinstance(direct.error, PipelineError)
    assert direct.error.stage == "tee"
    assert isinstance(direct.error.cause, ExitError)
    assert "No space left" in str(direct.error)
    behind = run(command("tee", writing(descriptors.open(Path("/dev/full"), os.O_WRONLY))), input=b"x")
    assert isinstance(behind.error, PipelineError)
    assert behind.error.stage == "writing of tee"
    assert isinstance(behind.error.cause, OSError)
    assert behind.error.cause.errno == errno.ENOSPC


def test_a_limit_of_the_program_holds_for_its_file(tmp_path: Path) -> None:
    """It is the process that writes."""
    path = tmp_path / "out"
    program = command("tee", writing(path), limits=Limits(file_size="100KB"))
    assert isinstance(run(program, input=DATA).error, PipelineError)
    assert path.stat().st_size == 100_000


def test_an_atomic_file_is_replaced_when_all_have_succeeded(tmp_path: Path) -> None:
    """Not before: a later stage reads the old one."""
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    later = command("sh", "-c", 'cat >/dev/null; cat "$0"', path)
    result = run(command("tee", writing(atomic(path))) | later, input=b"new", stdout=CAPTURE)
    assert (result.error, result.stdout) == (None, b"old")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o640)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("ending", ["exit 3", "kill -9 $$", "exec sleep 1000"])
def test_an_atomic_file_stays_as_it_was_if_the_run_fails(ending: str, tmp_path: Path) -> None:
    """Whether the program fails, is killed or takes too long."""
    path = tmp_path / "out"
    path.write_bytes(b"old")
    program = says(f'echo new > "$0"; {ending}', writing(atomic(path)))
    assert is_direct(program)
    result = run(program, timeout=0.3, grace=1)
    assert isinstance(result.error, PipelineError | PipelineTimeout)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_program_that_cannot_start_leaves_no_part(tmp_path: Path) -> None:
    """And a plain file is empty by then, as the stdout of such a run is."""
    plain = tmp_path / "plain"
    program = command("./nosuch", writing(atomic(tmp_path / "out")), writing(plain))
    with pytest.raises(StartError, match="nosuch"):
        program.run()
    assert [each.name for each in tmp_path.iterdir()] == ["plain"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not others_may_read(penstock.__file__), reason="other users cannot load the package here")
def test_a_file_that_may_not_be_opened_again_is_copied_into(host: Host) -> None:
    """An ordinary user who may only write to it, and a program that opens it for both ways.

    A new file has the modes that the umask leaves.
    """
    program = """
        import shutil, tempfile
        folder = tempfile.mkdtemp(dir="/tmp")
        command("true", writing(command("true"))).run()  # what that loads, only root may read, maybe
        os.chown(folder, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
        old, new, usual = (os.path.join(folder, name) for name in ("old", "new", "usual"))
        open(old, "wb").close()
        os.chmod(old, 0o200)
        both = 'exec 3<>"$0"; echo written >&3'
        for path, umask in ((old, 0o022), (new, 0o777), (usual, 0o022)):
            os.umask(umask)
            program = command("setpriv", "--reuid=65534", "sh", "-c", both, writing(path), name="both")
            stages = [str(node) for node in program.explain().nodes]
            error = program.run(check=False, stdout=DEVNULL).error
            os.chmod(path, 0o600)
            say("writing of both" in stages, error, open(path).read().strip())
        os.seteuid(0)
        shutil.rmtree(folder)
    """
    assert host.output(program).splitlines() == ["True None written"] * 2 + ["False None written"]


# What a program leaves behind, and other places where a file may stand.


def test_a_process_that_is_left_behind_goes_on_writing(tmp_path: Path, strays: Strays) -> None:
    """The run ends with the program, as it does if its stdout is that file; nothing is cut off."""
    path, gate = tmp_path / "out", tmp_path / "gate"
    os.mkfifo(gate)
    script = '(exec >/dev/null 2>&1; echo $(cat "$1") >> "$0") & echo $! >> "$PIDS"; echo first > "$0"'
    program = command("sh", "-c", script, writing(path), gate, env=strays.env, on_leftover="ignore")
    assert run(program, stderr=DEVNULL, grace=100).error is None
    assert path.read_bytes() == b"first\n"
    gate.write_text("last\n")
    assert gone(strays.pids()[0])
    assert path.read_bytes() == b"first\nlast\n"


def test_a_file_beside_a_branch_that_may_spool(tmp_path: Path) -> None:
    """The output of the program is relayed, because its reader waits for another way; its file is not."""
    path = tmp_path / "out"
    numbers = shared(command("seq", "200000"))
    copied = numbers | command("tee", writing(path), writing(command("wc", "-l")))
    joined = command("cat", reading(copied | command("tac")), reading(numbers))
    assert run(joined).error is None
    assert path.read_bytes().count(b"\n") == 200_000
    direct = command("tee", writing(command("tac")), writing(path))
    assert kinds(direct)["tee", str(path)] == "pass-fd"


def test_tee_route_and_functions_write_into_files_themselves(tmp_path: Path) -> None:
    """No stage and no pipe stands between them and the file."""
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    number = os.open(tmp_path / "four", os.O_WRONLY | os.O_CREAT)

    def copy(ctx: Any, stdin: Any, stdout: Any) -> None:
        for line in stdin:
            stdout.write(line)
            ctx.outputs["kept"].write(line)

    stages = [
        tee(one, number),
        route(lambda line: "even" if int(line) % 2 == 0 else None, {"even": two}, name="route"),
        function(copy, outputs={"kept": three}),
    ]
    pipeline = Pipeline(command("seq", "4"), *stages)
    try:
        found = {target: kind for (_, target), kind in kinds(pipeline, stdout=DEVNULL).items()}
        assert [found[each] for each in (one, two, three, str(number))] == ["pass-fd"] * 4
        assert [str(node) for node in pipeline.explain().nodes if node.kind != "endpoint"] == [
            "seq", "tee", "route", "copy"
        ]  # fmt: skip
        assert run(pipeline).error is None
    finally:
        os.close(number)
    read = [(tmp_path / name).read_text().split() for name in ("one", "two", "three", "four")]
    assert read == [list("1234"), list("24"), list("13"), list("1234")]


def test_a_path_that_is_read_is_the_program_s_own_to_open(tmp_path: Path) -> None:
    """`reading` of a path is that path, so it has no edge; `writing` of one beside it is a file."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(DATA)
    program = command("cp", reading(source), writing(target))
    assert kinds(program, stdout=DEVNULL) == {("cp", str(target)): "pass-fd", ("cp", "stdout"): "discard"}
    assert run(program).error is None
    assert target.read_bytes() == DATA


def test_a_value_is_planned_anew_for_each_run(tmp_path: Path) -> None:
    """What is at its path may change between two."""
    path = tmp_path / "out"
    program = command("tee", writing(path))
    assert is_direct(program, stdout=DEVNULL)
    assert not is_direct(program, stdout=str(path))
    assert run(program, input=b"1").error is None
    path.unlink()
    os.mkfifo(path)
    assert not is_direct(program)
    path.unlink()
    assert is_direct(program)


def test_a_file_of_the_kernel_that_asks_who_writes_is_written_by_us(host: Host) -> None:
    """The name of a process, for one: it must be the process itself."""
    program = """
        error = command("tee", writing("/proc/self/comm")).run(input=b"renamed", stdout=DEVNULL).error
        say(error, open("/proc/self/comm").read())
    """
    assert host.output(program).split() == ["None", "renamed"]


def test_a_working_directory_that_is_gone_is_named(host: Host) -> None:
    """A path from the root needs none."""
    program = """
        import tempfile
        whole = os.environ["TMPDIR"] + "/whole"
        os.chdir(tempfile.mkdtemp())
        os.rmdir(os.getcwd())
        for targets in (["part"], [atomic("part")], [atomic(whole), "part"], [whole]):
            result = command("tee", *map(writing, targets)).run(input=b"x", stdout=DEVNULL, check=False)
            say("working directory" in str(result.error))
        say(open(whole).read())
    """
    assert host.output(program).split() == ["True"] * 3 + ["False", "x"]


def test_a_command_that_is_used_twice_has_one_file_for_both(tmp_path: Path) -> None:
    """A value may stand in two places; neither overwrites the bytes of the other."""
    path = tmp_path / "out"
    both = command("tee", writing(path))
    assert not is_direct(both | both)
    assert run(both | both, input=b"x\n").error is None
    assert path.read_bytes() == b"x\n" * 2


@pytest.mark.parametrize("kind", [str, atomic], ids=["str", "atomic"])
def test_a_program_that_waits_for_a_whole_file_gets_both(kind: Any, tmp_path: Path) -> None:
    """It starts late; its output stays as it was if the source fails."""
    path = tmp_path / "out"
    copied = command("cp", reading(command("seq", "3"), via="file"), writing(kind(path)))
    assert run(copied).error is None
    assert path.read_bytes() == b"1\n2\n3\n"
    failed = command("cp", reading(command("false"), via="file"), writing(atomic(path)))
    assert isinstance(run(failed).error, PipelineError)
    assert path.read_bytes() == b"1\n2\n3\n"


def test_a_reader_that_leaves_early_keeps_what_was_written(tmp_path: Path) -> None:
    """The program ends as before `head`, and its file has a beginning of the stream."""
    path = tmp_path / "out"
    first = command("yes") | command("tee", writing(path)) | command("head", "-n", "1")
    result = run(first, stdout=CAPTURE)
    assert (result.error, result.stdout) == (None, b"y\n")
    assert path.read_bytes().startswith(b"y\ny\n")


def test_mistakes_are_named_as_before() -> None:
    """When the run is planned, or when the graph is made."""
    with pytest.raises(ValueError, match=re.escape("branch 'a\\x00b'")):
        writing("a\0b")
    with pytest.raises(ValueError, match="atomic"):
        command("tee", writing(atomic("/dev/null"))).explain()
