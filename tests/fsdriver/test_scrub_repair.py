"""A repair moves what cannot be used out of the way, says where it lay, and loses nothing."""

import json
import os
import pathlib
import shutil

import pytest

from fsdriver.folder import CONTROL_FOLDER
from fsdriver.quarantine import MANIFEST, Repair, plan
from tests.fsdriver.scrubbed import LONG, OTHER, STRIDE, Store

TIME = "2026-11-22T00:00:00Z"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    made = Store(str(tmp_path_factory.mktemp("template")))
    made.learn()
    return made


@pytest.fixture
def store(template, tmp_path):
    return template.copy(str(tmp_path))


def damage(store):
    """One of each that a repair can do something about."""
    store.flip("/file", 512 + STRIDE)
    record = store.places["/other folder"] / ".ckfs-dir"
    record.write_bytes(b"x" * 104)
    (sidecar,) = store.places["/folder"].glob(".ckfs-name.*")
    sidecar.write_bytes(b"x")
    store.places["/sparse"].unlink()
    place = store.places["/neighbour"]
    shutil.copyfile(place, place.with_name(place.name + "-LAPTOP"))
    (store.places["/folder"] / ".ckfs-tmp-00").write_bytes(b"")
    (store.places["/folder"] / ".ckfs-tmp-01").write_bytes(b"x" * 600)
    empty = store.places["/folder"] / ".ckfs-tmp-02"
    empty.mkdir()
    shutil.copyfile(record, empty / ".ckfs-dir")
    (store.places["/folder"] / "planted").mkdir()
    (store.places["/folder"] / "planted" / "x").write_bytes(b"x")


def planned(store):
    with store.opened() as opened:
        report = store.scrub()
        return plan(opened, report)


def repaired(store):
    steps = planned(store)
    with store.opened() as opened:
        repair = Repair(opened, TIME)
        assert repair.run(steps) == []
    return steps, pathlib.Path(store.path, repair.place)


def test_a_plan_changes_nothing_and_names_each_step(store):
    damage(store)
    before = store.files()
    steps = {(one.action, one.place) for one in planned(store)}
    assert store.files() == before
    relative = {path: str(place.relative_to(store.path)) for path, place in store.places.items()}
    folder = relative["/folder"]
    assert steps == {
        ("quarantine", relative["/file"]),
        ("quarantine", relative["/other folder"]),
        ("quarantine", relative[f"/folder/{LONG}"]),
        ("forget", relative["/sparse"]),
        ("quarantine", relative["/neighbour"] + "-LAPTOP"),
        ("remove", f"{folder}/.ckfs-tmp-00"),
        ("quarantine", f"{folder}/.ckfs-tmp-01"),
        ("remove", f"{folder}/.ckfs-tmp-02"),
        ("quarantine", f"{folder}/planted"),
    }


def test_after_a_repair_the_store_is_clean_and_nothing_is_lost(store):
    damage(store)
    before = store.files()
    steps, quarantine = repaired(store)
    report = store.scrub()
    assert report.findings == [] and report.result == "clean"
    manifest = json.loads((quarantine / MANIFEST).read_text())
    entries = manifest["entries"]
    assert manifest["store_id"] == report.store_id
    moved = {one["place"] for one in entries}
    assert {one.place for one in steps if one.action == "quarantine"} <= moved
    assert all(one["why"] for one in entries)
    # Every byte that was in the store is there still, but for the empty temporaries.
    after = store.files()
    for place, what in before.items():
        if ".ckfs-tmp-00" in place or ".ckfs-tmp-02" in place or place.startswith(CONTROL_FOLDER):
            continue
        holder = next(
            (
                one
                for one in entries
                if place == one["place"] or place.startswith(one["place"] + "/")
            ),
            None,
        )
        if holder is not None:
            place = (  # noqa: PLW2901 where it lies now
                str((quarantine / holder["name"]).relative_to(store.path))
                + place[len(holder["place"]) :]
            )
        assert after[place] == what, place
    store.driver.open()
    assert store.driver.read_file("/neighbour") == OTHER
    assert b"file" not in store.driver.names()
    store.driver.close()


def test_the_manifest_is_the_way_back(store):
    damage(store)
    before = store.files()
    _steps, quarantine = repaired(store)
    for one in reversed(json.loads((quarantine / MANIFEST).read_text())["entries"]):
        os.rename(quarantine / one["name"], os.path.join(store.path, one["place"]))
    shutil.rmtree(quarantine.parent)
    removed = {place for place in before if ".ckfs-tmp-00" in place or ".ckfs-tmp-02" in place}
    assert store.files() == {place: what for place, what in before.items() if place not in removed}


def test_swapped_files_both_go(store):
    store.swap("/file", "/neighbour")
    steps, quarantine = repaired(store)
    assert {one.path for one in steps} == {"/file", "/neighbour"}
    assert {one.action for one in steps} == {"quarantine"}
    manifest = json.loads((quarantine / MANIFEST).read_text())
    assert {one["path"] for one in manifest["entries"]} == {"/file", "/neighbour"}
    assert store.scrub().findings == []


def test_what_a_disk_or_the_mount_can_put_right_is_left(store):
    (name,) = os.listxattr(store.places["/file"])
    os.setxattr(store.places["/file"], name, b"x" * 50)
    assert planned(store) == []


def test_a_step_that_fails_does_not_stop_the_others(store):
    store.flip("/file", 700)
    store.flip("/neighbour", 700)
    steps = planned(store)
    store.places[steps[0].path].unlink()
    with store.opened() as opened:
        failed = Repair(opened, TIME).run(steps)
    assert len(failed) == 1 and steps[0].place in failed[0]
    assert not store.places[steps[1].path].exists()
    (manifest,) = pathlib.Path(store.path, CONTROL_FOLDER, "quarantine").glob(f"*/{MANIFEST}")
    assert len(json.loads(manifest.read_text())["entries"]) == 1


def test_the_same_quarantine_is_not_used_twice(store):
    store.flip("/file", 700)
    repaired(store)
    store.flip("/neighbour", 700)
    steps = planned(store)
    with store.opened() as opened, pytest.raises(Exception, match="there already"):
        Repair(opened, TIME).run(steps)
    assert store.places["/neighbour"].exists()
