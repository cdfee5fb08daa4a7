"""The host program forks while its runs go on: the copies start clean, and the runs notice nothing.

tests/runs/test_host.py has the traps of a single fork; here is a program that forks again and again, in
every way that Python has, with data under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.hosts import Host

pytestmark = pytest.mark.slow


def test_forks_of_every_kind_with_data_under_way(host: Host) -> None:
    """Copies that run pipelines, exit in order, raise, or are killed; and copies of copies."""
    ended = host.run("""
        import multiprocessing
        import traceback

        mixed = command("cat") | function(copy) | command("cat")
        runs = [mixed.start(stdin=PIPE, stdout=PIPE) for _ in range(3)]
        lines = command("seq", "100000").iter_lines()
        written = [b""] * len(runs)

        def go_on(step):
            for place, run in enumerate(runs):
                data = b"%d %d\\n" % (place, step)
                run.stdin.write(data)
                written[place] += data

        def work(number):
            return (command("printf", str(number)) | function(copy) | command("cat")).output()

        def fork(code):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                try:
                    code()
                except SystemExit:
                    raise
                except BaseException:
                    traceback.print_exc()
                    os._exit(9)
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        def leave():
            assert work(7) == b"7"
            sys.exit(3)

        def again():
            assert fork(leave) == 3
            assert work(8) == b"8"

        def die():
            command("cat").start(stdin=PIPE)
            os.kill(os.getpid(), signal.SIGKILL)

        def abuse():
            for run in runs:
                run.cancel()
                for file in (run.stdin, run.stdout):
                    file.close()
            lines.close()

        seen = []
        for step, (code, status) in enumerate([(leave, 3), (again, 0), (die, -9), (abuse, 0)]):
            go_on(step)
            seen += [next(lines) for _ in range(1000)]
            assert fork(code) == status, code
        with multiprocessing.get_context("fork").Pool(2) as pool:
            answers = pool.imap(work, range(12))
            go_on(4)
            assert list(answers) == [b"%d" % number for number in range(12)]
        for run, data in zip(runs, written):
            run.stdin.close()
            assert run.stdout.read() == data
            run.stdout.close()
            assert run.wait(10).ok
        seen += lines
        assert seen == [b"%d" % number for number in range(1, 100001)]
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            say("clean")
        """)
    assert (ended.err, ended.out, ended.returncode, ended.files) == ("", "clean\n", 0, [])
