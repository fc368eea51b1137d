"""Wycheproof's vectors, from the shared test data beside the checkout."""

import json
import pathlib
from typing import Any

import pytest

_PLACE = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data" / "wycheproof"


def groups(name: str) -> list[dict[str, Any]]:
    """The test groups of one file; skips without the folder, fails on an empty one."""
    if not _PLACE.is_dir():
        pytest.skip("the shared test data beside the checkout is missing")
    found = json.loads((_PLACE / name).read_text())["testGroups"]
    assert found, f"{name} has no test groups"
    return found
