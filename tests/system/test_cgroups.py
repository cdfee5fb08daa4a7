"""Cgroups of both versions, as folders of a test's own where this machine has them otherwise."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.system import cgroups, features
from penstock.system.cgroups import Cgroup, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Kernel:
    """Makes the files that the kernel would make in a new group, and takes each write for the whole value."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, dict[str, str]] = {}
        self.refuse: set[str] = set()
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        monkeypatch.setattr(cgroups, "_write", self.write)
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """With the files of a group, or not at all."""
        if str(Path(path).parent) in self.refuse:
            raise PermissionError(13, "no", path)
        self._mkdir(path, mode)
        for root, files in self.files.items():
            if isinstance(path, str) and path.startswith(root):
                for name, text in files.items():
                    Path(path, name).write_text(text)

    def rmdir(self, path: str) -> None:
        """Refused while there are processes in it."""
        if Path(path, "cgroup.procs").read_text().split():
            raise OSError(16, "busy", path)
        for file in Path(path).iterdir():
            file.unlink()
        self._rmdir(path)

    def write(self, path: str, text: str) -> None:
        """Only to what there is."""
        if not Path(path).exists():
            raise FileNotFoundError(2, "no such file", path)
        Path(path).write_text(text)


V2 = {
    "cgroup.procs": "",
    "cgroup.kill": "",
    "memory.max": "max",
    "memory.high": "max",
    "memory.swap.max": "max",
    "memory.oom.group": "0",
    "memory.events": "low 0\nhigh 3\nmax 7\noom 2\noom_kill 1\n",
    "memory.peak": "12345\n",
    "cpu.max": "max 100000",
    "pids.max": "max",
}
V1_MEMORY = {
    "cgroup.procs": "",
    "memory.limit_in_bytes": "",
    "memory.memsw.limit_in_bytes": "",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    "memory.max_usage_in_bytes": "777",
    "memory.force_empty": "",
}
WANTS = {"memory": 1000, "memory_high": 900, "cpu": 1.5, "processes": 7}


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Play the kernel's part for folders of the test."""
    return Kernel(monkeypatch)


def read(folder: Path, name: str) -> str:
    """What was written."""
    return (folder / name).read_text()


def test_version_2_keeps_all(tmp_path: Path, kernel: Kernel) -> None:
    """Swap is forbidden along with memory, and the whole group ends where memory runs out."""
    kernel.files[str(tmp_path)] = V2
    cgroup, missing = cgroups.make("job", WANTS, [Tree(2, frozenset(), str(tmp_path), str(tmp_path))])
    assert cgroup is not None
    assert missing == {}
    assert cgroup.kept == set(WANTS)
    folder = tmp_path / "job"
    assert read(folder, "memory.max") == "1000"
    assert read(folder, "memory.high") == "900"
    assert read(folder, "memory.swap.max") == "0"
    assert read(folder, "memory.oom.group") == "1"
    assert read(folder, "cpu.max") == "150000 100000"
    assert read(folder, "pids.max") == "7"
    assert cgroup.files() == [f"{folder}/cgroup.procs"]
    assert (cgroup.counted_kills(), cgroup.peak()) == (1, 12345)
    cgroup.kill()
    assert read(folder, "cgroup.kill") == "1"
    assert cgroup.remove()
    assert not folder.exists()


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path, kernel: Kernel) -> None:
    """And one in a tree of version 2 for its cgroup.kill, where that is mounted beside them."""
    trees = []
    for name, files in {
        "memory": V1_MEMORY,
        "cpu,cpuacct": {"cgroup.procs": "", "cpu.cfs_quota_us": ""},
        "pids": {"cgroup.procs": "", "pids.max": ""},
        "freezer": {"cgroup.procs": ""},
    }.items():
        (tmp_path / name).mkdir()
        kernel.files[str(tmp_path / name)] = files
        trees.append(Tree(1, frozenset(name.split(",")), str(tmp_path / name), str(tmp_path / name)))
    cgroup, missing = cgroups.make("job", WANTS, trees)
    assert cgroup is not None
    assert missing == {"memory_high": "no hierarchy has its controller"}
    assert read(tmp_path / "memory" / "job", "memory.limit_in_bytes") == "1000"
    assert read(tmp_path / "memory" / "job", "memory.memsw.limit_in_bytes") == "1000"
    assert read(tmp_path / "cpu,cpuacct" / "job", "cpu.cfs_quota_us") == "150000"
    assert read(tmp_path / "pids" / "job", "pids.max") == "7"
    assert not (tmp_path / "freezer" / "job").exists()
    assert (cgroup.counted_kills(), cgroup.peak()) == (4, 777)
    cgroup.reset()
    assert cgroup.oom_kills == 4
    assert read(tmp_path / "memory" / "job", "memory.max_usage_in_bytes") == "0"
    assert len(cgroup.files()) == 3
    assert cgroup.remove()


def test_a_place_beside_us_is_taken_if_it_can_do_more(tmp_path: Path, kernel: Kernel) -> None:
    """Below a group with processes of its own version 2 hands no controllers on."""
    own = tmp_path / "app.slice" / "ours.scope"
    own.mkdir(parents=True)
    kernel.files[str(own)] = {"cgroup.procs": "", "cgroup.kill": ""}
    kernel.files[str(tmp_path / "app.slice" / "job")] = V2
    tree = Tree(2, frozenset(), str(tmp_path), str(own))
    cgroup, missing = cgroups.make("job", WANTS, [tree])
    assert cgroup is not None
    assert missing == {}
    assert cgroup.files() == [f"{tmp_path}/app.slice/job/cgroup.procs"]
    kernel.refuse.add(str(tmp_path / "app.slice"))
    second, missing = cgroups.make("other", WANTS, [tree])
    assert second is not None
    assert second.files() == [f"{own}/other/cgroup.procs"]
    assert set(missing) == set(WANTS)
    assert cgroup.remove()
    assert second.remove()


def test_if_no_folder_may_be_made_each_want_says_why(tmp_path: Path, kernel: Kernel) -> None:
    """There is no group then."""
    kernel.refuse.add(str(tmp_path))
    cgroup, missing = cgroups.make("job", WANTS, [Tree(2, frozenset(), str(tmp_path), str(tmp_path))])
    assert cgroup is None
    assert set(missing) == set(WANTS)
    assert all("Permission denied" in reason for reason in missing.values())
    assert cgroups.make("job", WANTS, [])[0] is None


def test_a_group_with_members_stays_until_they_have_gone(tmp_path: Path, kernel: Kernel) -> None:
    """They are released to the group above, by writing their pids there."""
    (tmp_path / "cgroup.procs").touch()
    kernel.files[str(tmp_path)] = V2
    cgroup, _ = cgroups.make("job", {}, [Tree(2, frozenset(), str(tmp_path), str(tmp_path))])
    assert cgroup is not None
    (tmp_path / "job" / "cgroup.procs").write_text("0\n123\n")
    assert cgroup.members() == [123]
    assert not cgroup.remove()
    cgroup.release()
    assert "123" in read(tmp_path, "cgroup.procs")
    (tmp_path / "job" / "cgroup.procs").write_text("")
    assert cgroup.remove()


MOUNTS = """\
31 23 0:28 / {root} rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {root}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 /docker/abc {root}/memory ro,nosuid master:9 - cgroup cgroup rw,memory
41 31 0:38 / {root}/unified\\040two rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /proc rw - proc proc rw
"""
GROUPS = "5:cpu,cpuacct:/user\n4:memory:/docker/abc/inner\n1:name=systemd:/x\n0::/user.slice/a.scope\n"


def test_the_hierarchies_are_found_with_our_own_place_in_each(tmp_path: Path) -> None:
    """Also in a container, which is shown only a part; a place that cannot be seen is the mount itself."""
    for folder in ("cpu/user", "memory/inner", "unified two"):
        (tmp_path / folder).mkdir(parents=True)
    mounts, groups = tmp_path / "mountinfo", tmp_path / "cgroup"
    mounts.write_text(MOUNTS.format(root=tmp_path))
    groups.write_text(GROUPS)
    found = {
        os.path.relpath(tree.own, tmp_path): tree.version for tree in cgroups.trees(str(mounts), str(groups))
    }
    assert found == {"cpu/user": 1, "memory/inner": 1, "unified two": 2}


def test_no_cgroup_is_made_if_switched_off_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, or in a sandbox."""
    assert cgroups.trees(str(tmp_path / "missing"), "/proc/self/cgroup") == []
    monkeypatch.setattr(features, "CGROUPS", False)
    assert cgroups.trees() == []


@pytest.fixture
def real() -> Iterator[Callable[..., Cgroup]]:
    """Make real groups, or skip where none may be made."""
    made: list[Cgroup] = []

    def real(**wants: float) -> Cgroup:
        cgroup, missing = cgroups.make(f"penstock-test-{os.getpid()}-{len(made)}", wants, cgroups.trees())
        if cgroup is not None:
            made.append(cgroup)
        if cgroup is None or missing:
            pytest.skip(f"no cgroup may be made here for {wants}: {missing}")
        return cgroup

    yield real
    for cgroup in made:
        cgroup.kill()
        assert cgroup.remove()


@pytest.mark.parametrize("by", ["cgroup.kill", "one by one"])
def test_orphans_in_a_real_cgroup_are_killed(
    by: str, real: Callable[..., Cgroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan in a session of its own is a member all the same."""
    cgroup = real()
    if by == "one by one":
        monkeypatch.setattr(cgroup, "folders", [(folder, 1) for folder, _ in cgroup.folders])
    script = f'echo 0 >"{cgroup.files()[0]}"; setsid sleep 1000 & exec sleep 1000'
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as child:
        while len(cgroup.members()) < 2 or child.pid not in cgroup.members():
            assert child.poll() is None
            os.sched_yield()
        (other,) = set(cgroup.members()) - {child.pid}
        pidfd = os.pidfd_open(other)
        cgroup.kill()
        assert child.wait() == -9
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(20_000)
    os.close(pidfd)
    assert ended
