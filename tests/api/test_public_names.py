"""The public names, their signatures and defaults are those of `public_names.txt`."""

from __future__ import annotations

import difflib

import pytest
from tests.api.public_names import FILE, listing


def test_public_names_and_signatures_are_those_of_the_list() -> None:
    """A change of the public API shows in the list, and so in the review of the change."""
    listed, found = FILE.read_text(encoding="utf-8"), listing()
    if listed != found:
        change = difflib.unified_diff(
            listed.splitlines(), found.splitlines(), "listed", "found", lineterm="", n=0
        )
        pytest.fail(
            "the public API is not what tests/api/public_names.txt says; if that is meant, "
            "run `make public-names` and commit the file:\n" + "\n".join(change),
            pytrace=False,
        )
