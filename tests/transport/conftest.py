"""A store without a mount and the kernel's end of the wire; and stores to be mounted."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from driver import IN_MEMORY, Driver

from fsdriver import logs
from tests.mounted.driving import Driven, detach, finish
from tests.transport.fakekernel import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND = "size=512m"


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Kept, not shown: much is made to fail here."""
    before = logs.configure(io.StringIO())
    yield
    logs.configure(before)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        made = Driver(folder)
        yield made
        made.close()


@pytest.fixture
def kernel(driver: Driver) -> Iterator[FakeKernel]:
    made = FakeKernel(driver.fs)
    yield made
    made.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Open to every user; stores lie on a tmpfs of bounded size in it."""
    folder = Path(tempfile.mkdtemp(prefix="ckfs-transport-"))
    folder.chmod(0o755)
    backing = folder / "backing"
    backing.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", BOUND, "ckfs-tests", backing], check=True)
    yield folder
    detach(backing)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def template(place: Path) -> Driven:
    (place / "backing" / "template").mkdir()
    return Driven(place / "template", place / "backing" / "template").init()


@pytest.fixture
def made(request: pytest.FixtureRequest, place: Path, template: Driven) -> Iterator[Driven]:
    """A store of the test's own, not mounted yet; ended whatever happens."""
    name = request.node.originalname
    (place / "backing" / name).mkdir()
    driven = Driven(place / name, place / "backing" / name, ("--transport", "wire"))
    driven.copy_of(template)
    yield driven
    finish(driven)
