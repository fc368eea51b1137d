"""Stores for the command line to refuse, in a folder that every user can reach."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mounted.driving import Driven

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def unmade() -> Iterator[Driven]:
    """No store yet."""
    folder = Path(tempfile.mkdtemp(prefix="ckfs-cli-"))
    folder.chmod(0o755)
    driven = Driven(folder / "host", folder / "backing")
    driven.backing.mkdir()
    yield driven
    left = driven.end()
    shutil.rmtree(folder)
    if left:
        pytest.fail("; ".join(left), pytrace=False)


@pytest.fixture
def made(unmade: Driven) -> Driven:
    """A store, not mounted."""
    return unmade.init()


@pytest.fixture(params=["background", pytest.param("foreground", marks=pytest.mark.slow)])
def mounting(request):
    """`ckfs mount` both ways: what refuses must say the same."""
    return ["mount"] if request.param == "background" else ["mount", "-f"]
