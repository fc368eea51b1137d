"""Disks in loop images of bounded size, stores on them, and nothing left mounted."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.power.cycle import Templates
from tests.mounted.driving import detach, mountpoints_below, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def crash_base() -> Iterator[Path]:
    """Images lie in it; whatever happened to a test, nothing stays mounted in it."""
    folder = Path(tempfile.mkdtemp(prefix="ckfs-crash-"))
    yield folder
    left = mountpoints_below(folder)
    for place in left:
        detach(place)
    shutil.rmtree(folder, ignore_errors=True)
    running = [pid for place in left for pid in processes_with(place)]
    assert not left, f"still mounted: {left}, by processes {running}"
    devices = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in devices, f"loop devices are left: {devices}"


@pytest.fixture(scope="session")
def templates(crash_base: Path) -> Iterator[Templates]:
    """Stores with old content, to be copied."""
    made = Templates(crash_base)
    yield made
    made.close()
