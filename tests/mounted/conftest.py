"""Stores on a filesystem of bounded size, mounted through the command line, and never left so."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mounted.driving import Driven, detach, finish, mountpoints_below, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUND_MIB = 4096
_UNDER_TEST: pytest.StashKey[list[Driven]] = pytest.StashKey()


ONCE = {
    ("test_a_real_tree_goes_in_and_comes_back", "1GiB"): 0,
    ("test_a_real_tree_goes_in_and_comes_back", "64MiB"): -1,
    ("test_many_random_operations", ""): 0,
}
"""Test and parameter, or all of them -> the one transport. These are long, and what they ask of a
transport the other tests ask of each."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever makes a store to mount is run through each transport."""
    if "transport" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("transports").split(",")
        metafunc.parametrize("transport", chosen, scope="session")


def _is_once_too_often(item: pytest.Item) -> bool:
    name, _bracket, parameters = item.name.rstrip("]").partition("[")
    chosen = item.config.getoption("transports").split(",")
    return any(
        name == test
        and (not parameter or parameter in parameters.split("-"))
        and chosen[which] not in parameters.split("-")
        for (test, parameter), which in ONCE.items()
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_once_too_often(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.failed:
        for driven in item.stash.get(_UNDER_TEST, []):
            report.sections.append((f"log of {driven.mountpoint}", driven.log()[-20_000:]))
    return report


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """Open to every user, since some tests are another one; nothing may be left mounted in it."""
    folder = Path(tempfile.mkdtemp(prefix="ckfs-mounted-"))
    folder.chmod(0o755)
    yield folder
    left = mountpoints_below(folder)
    for place in left:
        detach(place)
    shutil.rmtree(folder, ignore_errors=True)
    running = [pid for place in left for pid in processes_with(place)]
    assert not left, f"still mounted: {left}, by processes {running}"


@pytest.fixture(scope="session")
def bounded(base: Path) -> Iterator[Path]:
    """What the stores lie on: ext4 in an image of bounded size, else a tmpfs of that size."""
    image, place = base / "image", base / "backing"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(BOUND_MIB << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        size = f"size={BOUND_MIB}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "ckfs-tests", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="session")
def stores() -> dict[tuple[str, ...], Driven]:
    """New stores to be copied, by the options of `ckfs init`."""
    return {}


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """For folders of their own."""
    return itertools.count(1)


@pytest.fixture(scope="session")
def start(
    base: Path,
    bounded: Path,
    stores: dict[tuple[str, ...], Driven],
    numbers: Iterator[int],
    transport: str,
) -> Callable[..., Driven]:
    """Makes a store of its own and its folders; whoever asks for one also ends it."""

    def make(
        name: str, *init: str, extra: tuple[str, ...] = (), backing: Path | None = None
    ) -> Driven:
        stem = f"{next(numbers):03}-" + re.sub(r"\W+", "-", name)[:40]
        backing = backing or bounded / stem
        backing.mkdir(exist_ok=True)
        if init not in stores:
            place = f"template-{len(stores)}"
            (bounded / place).mkdir()
            stores[init] = Driven(base / place, bounded / place).init(*init)
        return Driven(base / stem, backing, extra, transport).copy_of(stores[init])

    return make


@pytest.fixture
def fresh(request: pytest.FixtureRequest, start: Callable[..., Driven]) -> Iterator[Callable]:
    """Stores of the test's own, not mounted yet: `fresh(*options of init)`."""
    made: list[Driven] = []
    request.node.stash[_UNDER_TEST] = made

    def make(*init: str, **options: Any) -> Driven:
        made.append(start(request.node.name, *init, **options))
        return made[-1]

    yield make
    for driven in made:
        finish(driven)


@pytest.fixture
def driven(fresh: Callable[..., Driven]) -> Driven:
    """A store of the test's own, mounted; ended whatever happens."""
    made = fresh()
    made.mount()
    return made


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, start: Callable[..., Driven]) -> Iterator[Driven]:
    """One mount for the tests of a module that change nothing but their own folder."""
    made = start(request.node.name, extra=("-o", "allow_other,suid,dev"))
    # A new store is its owner's alone, and so is the root of its mount.
    made.mount().chmod(0o755)
    yield made
    finish(made)


@pytest.fixture
def folder(request: pytest.FixtureRequest, shared: Driven) -> Iterator[Path]:
    """An empty folder of the test's own in the shared mount, open to every user."""
    request.node.stash[_UNDER_TEST] = [shared]
    place = shared.mountpoint / re.sub(r"\W+", "-", request.node.name)
    place.mkdir()
    place.chmod(0o777)
    yield place
    assert not shared.refusals(), "the driver refused or failed what it should not"
