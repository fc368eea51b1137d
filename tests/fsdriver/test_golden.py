"""Two readers that share no code agree on whole stores: the frozen ones, and one with it all."""

import hashlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest
from msgspec.structs import replace

from fsdriver.backing import Backing
from fsdriver.changes import Changes
from fsdriver.errors import Recovered, StoreBusy, StoreDamaged
from fsdriver.inodes import ROOT
from keyhierarchy import creation, opening
from keyhierarchy import keystore as keystores
from keyhierarchy.servicekeys import service_roots
from tests.filesystem.driver import CALLER, Driver
from tests.golden import generate_v1, generate_v1_journal
from tests.vectors import reader

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
READER = pathlib.Path(reader.__file__)


def seen_by_the_package(driver: Driver) -> dict[str, dict]:
    """The whole tree through the filesystem's operations, in the reader's words."""
    found: dict[str, dict] = {}

    def attributes_of(number: int) -> dict[str, str]:
        listed = driver.fs.listxattr(number)
        return {os.fsdecode(one): driver.fs.getxattr(number, one).hex() for one in listed}

    def walk(number: int, path: str) -> None:
        found[path or "/"] = {"kind": "directory", "xattrs": attributes_of(number)}
        for name, below in driver.names(number).items():
            place = f"{path}/{os.fsdecode(name)}"
            status = driver.fs.getattr(below)
            if stat.S_ISDIR(status.mode):
                walk(below, place)
            elif stat.S_ISLNK(status.mode):
                target = os.fsdecode(driver.fs.readlink(below))
                assert status.size == len(os.fsencode(target))
                found[place] = {"kind": "symlink", "target": target}
            else:
                plaintext = driver.read_file(place)
                assert status.size == len(plaintext)
                found[place] = {
                    "kind": "file",
                    "size": len(plaintext),
                    "sha256": hashlib.sha256(plaintext).hexdigest(),
                    "xattrs": attributes_of(below),
                }

    walk(ROOT, "")
    return found


def seen_by_the_reader(store: str, state: str, *options: str) -> dict[str, dict]:
    """In a process of its own, as a stranger runs it."""
    command = [sys.executable, "-I", str(READER), store, state, *options]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def without(found: dict[str, dict], *fields: str) -> dict[str, dict]:
    return {
        path: {name: value for name, value in one.items() if name not in fields}
        for path, one in found.items()
    }


def copy_of(golden: pathlib.Path, tmp_path: pathlib.Path) -> Driver:
    """A frozen store with the modes that git does not keep; not opened."""
    shutil.copytree(golden / "store", tmp_path / "store", symlinks=True)
    shutil.copytree(golden / "state", tmp_path / "state")
    (tmp_path / "state").chmod(0o700)
    (tmp_path / "state" / "service-keys").chmod(0o700)
    keys = list((tmp_path / "state" / "service-keys").iterdir())
    assert keys
    for key in keys:
        key.chmod(0o600)
    driver = Driver.__new__(Driver)
    driver.store, driver.state_dir = str(tmp_path / "store"), str(tmp_path / "state")
    driver.backing = Backing()
    driver._closed = True
    return driver


@pytest.fixture
def golden(tmp_path) -> Driver:
    """A copy of the frozen store."""
    driver = copy_of(GOLDEN / "v1", tmp_path)
    driver.open()
    yield driver
    driver.close()


@pytest.fixture
def killed(tmp_path) -> Driver:
    """A copy of the frozen store whose driver was killed, on a host that never saw it."""
    driver = copy_of(GOLDEN / "v1-journal", tmp_path)
    yield driver
    driver.close()


def as_the_host_of(driver: Driver) -> None:
    """This host has the killed driver's session on record."""
    with pytest.raises(StoreBusy):
        driver.open()
    (place,) = pathlib.Path(driver.state_dir).rglob("sessions.json")
    with open(pathlib.Path(driver.store, ".ckfs", "journal", "a"), "rb") as file:
        session = file.read(80)[16:32]
    place.write_text(json.dumps({"format": 1, "running": session.hex(), "unended": []}))
    place.chmod(0o600)


def files_of(store: str) -> dict[str, bytes]:
    places = [place for place in pathlib.Path(store).rglob("*") if place.is_file()]
    return {str(place): place.read_bytes() for place in places}


UNSEALED = "/" + generate_v1_journal.UNSEALED


def test_the_reader_reads_a_killed_drivers_store_as_after_a_replay(killed):
    expected = json.loads((GOLDEN / "v1-journal" / "expected.json").read_text())
    assert expected == generate_v1_journal.expected()
    found = without(seen_by_the_reader(killed.store, killed.state_dir), "xattrs", "sparse")
    assert found.pop(UNSEALED) == {"kind": "refused", "error": "HeaderInvalid"}
    del expected[UNSEALED]
    assert found == expected
    place = pathlib.Path(killed.store, ".ckfs", "journal")
    (place / "a").unlink()
    (place / "b").unlink()
    before = without(seen_by_the_reader(killed.store, killed.state_dir), "xattrs", "sparse")
    differ = [path for path in expected if before.get(path) != expected[path]]
    assert len(differ) >= 6  # what the newer epoch alone has


def test_another_host_does_not_replay_it_unasked(killed):
    before = files_of(killed.store)
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreBusy, match="recover"):
            killed.open(**options)
    assert files_of(killed.store) == before
    killed.open(recover=True)
    expected = json.loads((GOLDEN / "v1-journal" / "expected.json").read_text())
    assert without(seen_by_the_package(killed), "xattrs") == expected


def test_its_host_replays_it_once(killed):
    expected = json.loads((GOLDEN / "v1-journal" / "expected.json").read_text())
    as_the_host_of(killed)
    reports: list[Exception] = []
    killed.open(report=lambda _inode, error: reports.append(error))
    killed.tree.report = lambda _inode, error: reports.append(error)
    assert without(seen_by_the_package(killed), "xattrs") == expected
    assert all(isinstance(one, Recovered) for one in reports)
    assert sum("bytes kept" in str(one) for one in reports) == 1
    killed.close()
    assert without(seen_by_the_reader(killed.store, killed.state_dir), "xattrs", "sparse") == (
        expected
    )
    shutil.rmtree(pathlib.Path(killed.store, ".ckfs", "journal"))
    assert without(seen_by_the_reader(killed.store, killed.state_dir), "xattrs", "sparse") == (
        expected
    )


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_like_it_can_still_be_made(tmp_path, read_only):
    driver = Driver(str(tmp_path))
    generate_v1_journal.fill(driver)
    driver.drop()
    expected = generate_v1_journal.expected()
    found = without(seen_by_the_reader(driver.store, driver.state_dir), "xattrs", "sparse")
    assert found.pop(UNSEALED)["kind"] == "refused"
    assert found == {path: one for path, one in expected.items() if path != UNSEALED}
    before = files_of(driver.store)
    driver.open(read_only=read_only)
    assert without(seen_by_the_package(driver), "xattrs") == expected
    driver.close()
    assert (files_of(driver.store) == before) == read_only


def test_both_readers_find_in_the_golden_store_what_was_put_in(golden):
    expected = json.loads((GOLDEN / "v1" / "expected.json").read_text())
    assert len(expected) >= 15
    assert expected == generate_v1.expected()
    assert without(seen_by_the_package(golden), "xattrs") == expected
    found = seen_by_the_reader(golden.store, golden.state_dir)
    assert without(found, "xattrs", "sparse") == expected
    assert [path for path, one in found.items() if one.get("sparse")] == ["/sparse"]


def test_the_golden_store_can_be_written_to(golden):
    golden.write_file("across a border", b"changed", offset=4093)
    golden.fs.rename(*golden.split("link"), *golden.split("letters/2026/link"))
    golden.reopen()
    found = seen_by_the_package(golden)
    assert found["/across a border"]["size"] == 4100
    assert without(found, "xattrs") == without(
        seen_by_the_reader(golden.store, golden.state_dir), "xattrs", "sparse"
    )


@pytest.mark.parametrize("generator", [generate_v1, generate_v1_journal])
def test_the_golden_generator_replaces_nothing(capsys, generator):
    assert generator.main() == 1
    assert "frozen" in capsys.readouterr().err


def fill_with_all_that_git_does_not_keep(driver: Driver) -> None:
    generate_v1.fill(driver)
    for count in range(5):
        driver.fs.link(driver.number("one byte"), *driver.split(f"letters/{count}"))
    driver.fs.link(driver.number("link"), *driver.split("letters/second link"))
    driver.write_file("scattered", b"x" * 8192)
    handle = driver.fs.open(driver.number("scattered"), os.O_RDWR)
    for index in range(0, 600, 2):
        driver.fs.write(handle, 4096 * index, b"y")
    driver.fs.release(handle)
    driver.fs.setattr(driver.number("scattered"), Changes(size=4096 * 700))
    driver.fs.setattr(driver.number("empty"), Changes(size=1 << 20))
    for path in ("5000 bytes", "letters", ""):
        driver.fs.setxattr(driver.number(path), b"user.tag", path.encode() * 20, CALLER)
        driver.fs.setxattr(driver.number(path), b"user.nothing", b"", CALLER)


@pytest.mark.parametrize("plaintext_names", [False, True], ids=["encrypted", "plaintext"])
def test_both_readers_agree_on_a_store_that_has_it_all(tmp_path, plaintext_names):
    (tmp_path / "made").mkdir()
    driver = Driver(str(tmp_path / "made"), plaintext_names=plaintext_names)
    try:
        fill_with_all_that_git_does_not_keep(driver)
    except OSError as error:
        driver.close()
        pytest.skip(f"the filesystem of the temporary folder has no user attributes: {error}")
    with driver.tree.sealed(
        driver.tree.inodes.get(driver.number("scattered")), writable=False
    ) as file:
        assert file.state.extent_pages
    driver.reopen()
    package = seen_by_the_package(driver)
    copy = str(tmp_path / "copy")
    found = seen_by_the_reader(driver.store, driver.state_dir, "--to", copy)
    driver.close()
    assert without(found, "sparse") == package
    assert found["/letters"]["xattrs"]["user.tag"] == (b"letters" * 20).hex()
    assert len(package) >= 25
    for path, one in found.items():
        if one["kind"] == "file":
            written = pathlib.Path(copy + path).read_bytes()
            assert hashlib.sha256(written).hexdigest() == one["sha256"]
        if one["kind"] == "symlink":
            assert os.readlink(copy + path) == one["target"]


def test_the_reader_uses_nothing_of_the_package():
    imports = [line for line in READER.read_text().splitlines() if "import" in line.split()[:1]]
    imports += [line for line in READER.read_text().splitlines() if line.startswith("from ")]
    assert imports
    assert not any("fsdriver" in line or "keyhierarchy" in line for line in imports)


def test_the_reader_says_in_one_line_why_it_refuses(tmp_path, golden):
    golden.close()
    place = pathlib.Path(golden.store, ".ckfs", "store.json")
    true = place.read_text()
    place.write_text(true.replace('"encrypted"', '"plaintext"'))
    command = [sys.executable, "-I", str(READER), golden.store, golden.state_dir]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert b"StoreDamaged" in done.stderr
    with pytest.raises(StoreDamaged, match="was changed"):
        golden.open()
    place.write_text(true)
    golden.open()


def test_links_are_sealed_to_every_name_or_to_none(tmp_path):
    driver = Driver(str(tmp_path))
    driver.write_file("a", b"one file")
    for name in ("b", "c", "d"):
        driver.fs.link(driver.number("a"), *driver.split(name))
    inode = driver.tree.inodes.get(driver.number("a"))
    with driver.tree.sealed(inode, writable=False) as file:
        assert len(file.state.bindings) == 4
    driver.fs.link(driver.number("a"), *driver.split("e"))
    with driver.tree.sealed(inode, writable=False) as file:
        assert file.state.unbound
    driver.fs.symlink(*driver.split("f"), b"a", CALLER)
    driver.close()
    assert set(seen_by_the_reader(driver.store, driver.state_dir)) == {
        "/",
        *(f"/{name}" for name in "abcdef"),
    }


def add_site(driver: Driver) -> bytes:
    """Keys of one more site in the keystore, under the policy that is there."""
    control, store_id = driver.store + "/.ckfs", driver.hierarchy.store_id
    keystore = keystores.load(control, store_id)
    (section,) = keystore.sections
    tiks = opening.open_section(
        section, None, store_id=store_id, roots=service_roots(driver.state_dir), place=control
    )
    site = creation.new_site(
        tiks[1],
        policy_id=section.policy.id,
        tik_generation=1,
        root_directory_id=os.urandom(16),
        workload="teams",
    )
    number = keystore.generation + 1
    section = replace(section, sealed_generation=number, sites=(*section.sites, site))
    section = keystores.sealed(section, tiks[1], store_id=store_id)
    keystores.store(control, replace(keystore, generation=number, sections=(section,)))
    return bytes.fromhex(site.site_id)


def test_both_readers_agree_on_a_store_with_two_sites(tmp_path):
    driver = Driver(str(tmp_path))
    site_id = add_site(driver)
    driver.fs.announce_site(ROOT, b"team", site_id, CALLER)
    driver.mkdir("team")
    driver.write_file("mine", b"one site's")
    driver.mkdir("team/folder")
    driver.write_file("team/folder/ours", b"another site's")
    driver.fs.symlink(*driver.split("team/link"), b"folder/ours", CALLER)
    driver.fs.rename(*driver.split("team"), *driver.split("renamed"))
    driver.reopen()
    package = seen_by_the_package(driver)
    place = pathlib.Path(driver.backing_path("renamed"))
    driver.close()
    assert (place / ".ckfs-dir").read_bytes()[24:40] == site_id
    assert without(seen_by_the_reader(driver.store, driver.state_dir), "sparse") == package
    assert package["/renamed/folder/ours"]["size"] == 14
