"""Secrets: a str of placeholder characters, the table behind it, and what becomes of it in texts."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import pprint
import shlex
import string
import subprocess
import sys
import textwrap
import threading
import traceback
import urllib.parse
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import placeholders
from penstock.core.env import show
from penstock.core.placeholders import MARK, masked
from penstock.core.printable import printable
from penstock.core.secret import Secret, SecretText, carried, mistake_in, restored

if TYPE_CHECKING:
    from collections.abc import Callable

WORD = "hunter2"


def clear(text: Any) -> Any:
    """Return a text as a child would get it."""
    return restored(carried("the text", text))


# --- What it looks like


@pytest.mark.parametrize(
    "render",
    [
        repr,
        ascii,
        show,
        printable,
        pprint.pformat,
        lambda secret: f"{secret!r:>20}",
        lambda secret: "%r" % (secret,),  # noqa: UP031 - one of the ways
        lambda secret: str([secret]) + str({"password": secret}) + str((secret,)),
        lambda secret: repr(ValueError(secret)),
        lambda secret: show(f"a={secret}") + show(f"b={secret}".encode()) + show(Path(f"/{secret}")),
        lambda secret: masked(f"{secret}{secret} {secret[:40]}"),
    ],
)
def test_a_secret_is_shown_as_three_stars(render: Callable[[Secret], str]) -> None:
    """By its `repr`, and by all that makes a text for people."""
    text = render(Secret(WORD))
    assert WORD not in text
    assert "***" in text
    assert str(Secret(WORD)) not in text


@pytest.mark.parametrize(
    "render",
    [
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret:>20}",
        lambda secret: f"{secret:<100}|",
        lambda secret: "%s" % secret,  # noqa: UP031 - one of the ways
        "a {} b".format,
        lambda secret: "password=" + secret + ";",
        lambda secret: " ".join([secret] * 2),
        lambda secret: string.Template("$a").substitute(a=secret),
        lambda secret: json.dumps({"password": secret, secret: [f"x {secret}"]}, indent=1),
        lambda secret: shlex.quote(secret) + shlex.join(["curl", "-u", f"me:{secret}"]),
        lambda secret: shlex.split(f"curl -u {secret}")[2],
        lambda secret: urllib.parse.quote(secret) + urllib.parse.urlencode({"p": secret}),
        lambda secret: urllib.parse.urlsplit(f"https://me:{secret}@host/x").password,
        lambda secret: os.fspath(Path("/run") / secret / "x"),
        lambda secret: os.path.join("/run", secret),  # noqa: PTH118 - one of the ways
        lambda secret: textwrap.fill(f"the password is {secret}, as you know", 100),
        lambda secret: secret.encode().decode(),
        lambda secret: secret.strip().ljust(200).expandtabs(),
        lambda secret: str(ValueError(secret)),
        lambda secret: secret.partition("?")[0] + "".join(secret) + secret.replace("hunter", ""),
    ],
)
def test_a_text_that_is_made_of_a_secret_has_its_clear_text_for_a_child(
    render: Callable[[Secret], str],
) -> None:
    """Anybody else sees the placeholder in it."""
    text = render(Secret(WORD))
    assert WORD not in text
    assert WORD in clear(text)
    assert MARK not in clear(text)
    assert clear(text.encode()) == clear(text).encode()


def test_a_secret_is_a_str_of_plain_characters() -> None:
    """Nothing in it must be quoted or escaped anywhere."""
    secret = Secret(WORD)
    assert isinstance(secret, str)
    assert set(secret) <= set(string.ascii_letters + string.digits + "_.-~")
    assert secret[0] == "_"
    assert str(Secret(""))
    assert Secret("").reveal() == ""
    assert len({Secret(str(number)) for number in range(100)}) == 100


def test_two_secrets_in_one_text_and_clear_texts_that_look_like_placeholders() -> None:
    """Each is put back once, wherever it stands."""
    one, two = Secret("1"), Secret("two")
    assert clear(f"{one}{two}{one}") == "1two1"
    assert clear(f"<{two}>{one}") == "<two>1"
    assert clear(f"{one}/{two}".encode()) == b"1/two"
    nested = Secret(f"Bearer {two}")
    assert nested.reveal() == "Bearer two"
    assert Secret(Secret("x")) == Secret("x")
    assert Secret(Secret("x")).reveal() == "x"
    assert type(Secret(Secret("x"))) is Secret
    assert masked(f"{one}{two}{one}") == "***" * 3


# Hypothesis also tries the texts that it finds in the package, such as the mark of a placeholder.
WITHOUT_MARK = st.text().filter(lambda text: MARK not in text.lower())


@pytest.mark.slow
@given(st.lists(st.tuples(WITHOUT_MARK, WITHOUT_MARK)))
def test_any_text_can_be_a_secret_in_any_text(pairs: list[tuple[str, str]]) -> None:
    """What is put in comes out."""
    text = "".join(f"{plain}{Secret(hidden)}" for plain, hidden in pairs)
    assert clear(text) == "".join(plain + hidden for plain, hidden in pairs)


# --- Mistakes


@pytest.mark.parametrize(
    "change",
    [
        lambda secret: secret[:9],
        lambda secret: secret[:40],
        lambda secret: secret[:-1],
        lambda secret: secret[1:],
        lambda secret: secret[20:60],
        lambda secret: secret[-9:],
        lambda secret: secret[:50] + secret,
        lambda secret: secret + secret[3:],
        lambda secret: secret.upper(),
        lambda secret: secret.lower(),
        lambda secret: secret.title(),
        lambda secret: secret.swapcase(),
        lambda secret: secret.casefold(),
        lambda secret: secret.replace("_", ":", 4),
        lambda secret: secret.replace("SECRET", "secret"),
        lambda secret: f"{secret:.70}",
        lambda secret: secret.translate({ord(digit): "2" for digit in "05692"} | {ord("2"): "5"}),
        lambda secret: textwrap.shorten(f"x {secret}"[:60], 60),
    ],
)
def test_a_placeholder_that_was_cut_or_changed_is_a_value_error(change: Callable[[Secret], str]) -> None:
    """Str or bytes; the error says what to do."""
    text = change(Secret("hunter2-" + "31" * 4))
    for wrong in (text, text.encode(), f"a {text} b"):
        with pytest.raises(ValueError, match=r"^the text holds .*Secret") as caught:
            carried("the text", wrong)
        assert WORD not in str(caught.value)
        assert MARK not in str(caught.value)
    with pytest.raises(ValueError, match=r"reveal|pickle"):
        Secret(text)


def test_a_placeholder_of_another_process_is_a_value_error_that_says_so() -> None:
    """It looks right, but nobody here knows the clear text."""
    program = "from penstock import Secret; print(Secret('hunter2'))"
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    with pytest.raises(ValueError, match=r"does not know: pickle the Secret, or the stage"):
        carried("the text", f"a {ended.stdout}")
    assert masked(ended.stdout) == "***\n"


@pytest.mark.parametrize("value", [None, b"hunter2", bytearray(b"hunter2"), 5, ["hunter2"]])
def test_a_secret_is_made_of_a_str(value: object) -> None:
    """Anything else is a `TypeError` that does not hold it, in its text or in our frames."""
    with pytest.raises(TypeError, match=r"^Secret\(\) takes a str, not ") as caught:
        Secret(value)  # type: ignore[arg-type]
    assert WORD not in str(caught.value)
    for frame, _ in traceback.walk_tb(caught.tb):
        if "/src/penstock/" in frame.f_code.co_filename:
            assert WORD not in repr(frame.f_locals)


@pytest.mark.parametrize(
    ("hidden", "mistake"), [("a\0", "NUL"), ("a\ud800", "encoded"), ("caf\udce9", None), ("", None)]
)
def test_a_clear_text_that_the_kernel_does_not_take_is_found_in_any_text(
    hidden: str, mistake: str | None
) -> None:
    """In a str and in bytes."""
    for text in (f"x{Secret(hidden)}", f"x{Secret(hidden)}".encode()):
        found = mistake_in(carried("x", text))
        assert found is None if mistake is None else mistake in str(found)


# --- A value like any other


def test_secrets_compare_by_value() -> None:
    """Equal secrets are equal and hash alike, and none equals its clear text or any other str."""
    secret = Secret(WORD)
    assert secret == Secret(WORD)
    assert hash(secret) == hash(Secret(WORD))
    assert secret != Secret("other")
    assert secret != WORD
    assert WORD != secret  # noqa: SIM300 - the other way round
    assert not secret == WORD  # noqa: SIM201 - both operators
    assert secret != 5
    assert len({secret, Secret(WORD), WORD}) == 2
    assert Secret("") != ""
    assert secret.reveal() == WORD
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secrets_and_texts_with_them_can_be_pickled_and_copied(protocol: int) -> None:
    """With the value, because it is for another process."""
    secret = Secret(WORD)
    for copied in (
        pickle.loads(pickle.dumps(secret, protocol)),
        copy.copy(secret),
        copy.deepcopy([secret])[0],
    ):
        assert type(copied) is Secret
        assert copied == secret
        assert copied.reveal() == WORD
    for text in (f"a{secret}", f"a{secret}".encode()):
        held = carried("x", text)
        copied = pickle.loads(pickle.dumps(held, protocol))
        assert type(copied) is type(held)
        assert clear(copied) == clear(text)


def test_a_pickle_brings_its_secrets_into_another_process() -> None:
    """Together with texts that were made of them; each finds its own equal."""
    secret = Secret(WORD)
    data = pickle.dumps((secret, carried("x", f"a {secret}"), f"b {secret}"))
    program = (
        "import pickle, sys; from penstock.core.secret import *\n"
        "here = Secret('hunter2')\n"
        "secret, held, text = pickle.load(sys.stdin.buffer)\n"
        "print(secret.reveal(), restored(held), restored(carried('x', text)), secret == here)\n"
        "both = restored(carried('x', f'{secret}{here}'))\n"
        "print(hash(secret) == hash(here), str(secret) == str(here), both)"
    )
    ended = subprocess.run([sys.executable, "-c", program], input=data, stdout=subprocess.PIPE, check=True)
    assert ended.stdout.split(b"\n")[:2] == [
        b"hunter2 a hunter2 b hunter2 True",
        b"True False hunter2hunter2",
    ]


# --- The table


@pytest.fixture
def own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test an empty table, because it drops what others may need."""
    monkeypatch.setattr(placeholders, "_entries", OrderedDict())
    monkeypatch.setattr(placeholders, "_tokens", {})
    monkeypatch.setattr(placeholders, "_characters", 0)


def count() -> int:
    """Return the number of entries."""
    return len(placeholders._entries)


def test_equal_secrets_share_a_placeholder() -> None:
    """So a service that makes the same one for each request does not grow."""
    first = str(Secret("the same each time"))
    before = count()
    assert {str(Secret("the same each time")) for _ in range(1000)} == {first}
    assert count() == before


def test_a_text_outlives_the_secret_that_it_was_made_of() -> None:
    """As an f-string mostly does."""
    text = f"a {Secret('for a moment')}"
    gc.collect()
    assert clear(text) == "a for a moment"


@pytest.mark.usefixtures("own_table")
def test_the_table_keeps_what_is_held_and_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are dropped, and then an error; a secret or a text that is held never is."""
    monkeypatch.setattr(placeholders, "_KEPT", 20)
    kept = Secret("kept")
    held = carried("x", f"a {Secret('held by a text')}")
    used = f"b {Secret('used again and again')}"
    lost = f"c {Secret('lost')}"
    most = 0
    for number in range(1000):
        Secret(f"one of many {number}")
        clear(used)
        most = max(most, count())
    assert most <= placeholders._KEPT + 1
    assert kept.reveal() == "kept"
    assert clear(f"d {kept}") == "d kept"
    assert restored(held) == "a held by a text"
    assert clear(used) == "b used again and again"
    with pytest.raises(ValueError, match="keep the Secret as long as its text is used"):
        carried("x", lost)
    assert Secret("lost").reveal() == "lost"


@pytest.mark.usefixtures("own_table")
def test_long_secrets_are_bounded_by_their_length() -> None:
    """However few they are."""
    for number in range(100):
        Secret(f"{number}" + "x" * 1_000_000)
    assert placeholders._characters <= placeholders._KEPT_CHARACTERS + 1_000_002
    assert placeholders._characters == sum(len(entry.text) for entry in placeholders._entries.values())


@pytest.mark.usefixtures("own_table")
def test_threads_that_make_the_same_secrets_get_the_same_placeholders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While others are dropped."""
    monkeypatch.setattr(placeholders, "_KEPT", 20)
    wrong: list[object] = []
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(300):
            secret = Secret(f"shared {turn}")
            if secret.reveal() != f"shared {turn}" or clear(f"<{secret}>") != f"<shared {turn}>":
                wrong.append(secret)
            del secret
            Secret(f"own {number} {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len({str(Secret("shared 1")) for _ in range(10)}) == 1


def test_a_forked_copy_knows_the_secrets_and_makes_others() -> None:
    """Also if a thread was in the table at that moment; the copies' own differ."""
    program = """
import os, threading
from penstock.core import placeholders
from penstock.core.secret import Secret
secret = Secret("hunter2")
inside, done = threading.Event(), threading.Event()
def hold():
    with placeholders._lock:
        inside.set()
        done.wait()
threading.Thread(target=hold).start()
inside.wait()
pid = os.fork()
if pid == 0:
    os.write(1, f"{secret.reveal()} {Secret('hunter2') == secret} {Secret('new').reveal()}".encode())
    os._exit(0)
done.set()
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, b"hunter2 True new")


def test_the_table_shows_no_clear_text() -> None:
    """Error reporters show the globals of modules, too."""
    secret = Secret(WORD)
    assert WORD not in repr(placeholders._entries)
    assert WORD not in repr(carried("x", f"a{secret}"))
    assert isinstance(carried("x", f"a{secret}"), SecretText)
