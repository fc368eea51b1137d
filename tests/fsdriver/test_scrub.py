"""A scrub of a store that is as it was left, and of one to which somebody did something."""

import os
import pathlib
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver import scrubkeys
from fsdriver.format import filekeys, header
from fsdriver.format.directory import RECORD_NAME
from fsdriver.format.header import ClearHeader
from fsdriver.scrub import Scrub
from fsdriver.storelock import StoreLock
from keyhierarchy import errors
from tests.filesystem.test_sites import make_site
from tests.fsdriver.scrubbed import CONTENT, FILES, HOLES, LONG, SIZE, STRIDE, Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    made = Store(str(tmp_path_factory.mktemp("template")))
    made.learn()
    return made


@pytest.fixture(scope="module")
def plain_template(tmp_path_factory):
    made = Store(str(tmp_path_factory.mktemp("plain")), plaintext_names=True)
    made.learn()
    return made


@pytest.fixture
def store(template, tmp_path):
    return template.copy(str(tmp_path))


@pytest.fixture
def plain(plain_template, tmp_path):
    return plain_template.copy(str(tmp_path))


def told(report):
    return [(one.verdict, one.kind, one.path) for one in report.findings]


def only(report):
    assert len(report.findings) == 1, told(report)
    return report.findings[0]


@pytest.mark.parametrize("names", ["encrypted", "plaintext"])
def test_a_store_as_it_was_left_is_clean(names, template, plain_template):
    store = template if names == "encrypted" else plain_template
    before = store.files()
    report = store.scrub()
    assert told(report) == [] and report.result == "clean" and report.exit_code == 0
    assert (report.folders, report.files, report.symlinks, report.nodes) == (4, len(FILES), 2, 1)
    sizes = sum(len(content) for content in FILES.values()) - 8 * SIZE
    assert report.verified_bytes == sizes + (HOLES + 1) * SIZE
    assert report.content_database == "complete" and not report.mounted
    assert store.files() == before


def flip_chunk(store):
    store.flip("/file", 512 + STRIDE + 100)
    store.flip("/file", 512 + 2 * STRIDE + 100)


def flip_header(store):
    store.flip("/file", 200)


def flip_wrapped_key(store):
    store.flip("/file", 60)


def zero_chunk(store):
    store.set_record("/file", 1, bytes(STRIDE))
    store.set_record("/file", 3, bytes(STRIDE))


def other_files_chunk(store):
    store.set_record("/file", 1, store.record("/neighbour", 1))
    store.set_record("/file", 2, store.record("/neighbour", 2))


def cut(store):
    with open(store.places["/file"], "r+b") as file:
        file.truncate(512 + 2 * STRIDE + 77)


def cut_to_nothing(store):
    store.places["/file"].write_bytes(b"")


def extend(store):
    with open(store.places["/file"], "ab") as file:
        file.write(bytes(STRIDE))


def swap_chunks(store):
    first, second = store.record("/file", 1), store.record("/file", 2)
    store.set_record("/file", 1, second)
    store.set_record("/file", 2, first)


def copy_chunk(store):
    store.set_record("/file", 2, store.record("/file", 0))


def older_chunk(store):
    old = store.record("/file", 1)
    store.written("/file", b"new" * 1000, offset=SIZE)
    store.set_record("/file", 1, old)


def older_file(store):
    old = store.raw("/file")
    store.written("/file", b"new" * 1000, offset=SIZE)
    store.learn()
    store.places["/file"].write_bytes(old)


def dirty_header_put_back(store):
    """As a driver that ended well once left it for a moment."""
    raw = bytes(store.raw("/file"))
    with store.opened() as opened:
        clear = ClearHeader.parse(raw)
        lease = opened.sites(clear.site_id).lease
        wrapped = clear.wrapped_file_key
        file_key = lease.unwrap_file_key(clear.file_id, clear.site_key_generation, wrapped)
        cipher = AESGCM(filekeys.derive(file_key, clear.file_id).header_key)
        state = header.unseal(raw[:512], cipher)
        state.dirty = True
        store.places["/file"].write_bytes(header.seal(raw[:128], state, cipher) + raw[512:])


def delete(store):
    store.places["/file"].unlink()


def swap_files(store):
    store.swap("/file", "/neighbour")


def copy_over(store):
    shutil.copyfile(store.places["/neighbour"], store.places["/file"])


def break_link(store):
    place = store.places["/linked"]
    place.unlink()
    shutil.copyfile(store.places["/other folder/link"], place)


def move_to_another_folder(store):
    place = store.places["/file"]
    place.rename(store.places["/folder"] / place.name)


def swap_folders(store):
    store.swap("/folder", "/other folder")


def flip_record(store):
    store.places["/folder/deep/x"] = store.places["/folder/deep"] / RECORD_NAME
    store.flip("/folder/deep/x", 90)


def delete_record(store):
    (store.places["/folder/deep"] / RECORD_NAME).unlink()


def delete_folder(store):
    shutil.rmtree(store.places["/folder/deep"])


def swap_symlinks(store):
    store.swap("/symlink", "/other symlink")


def change_symlink(store):
    text = store.places["/symlink"].readlink()
    store.places["/symlink"].unlink()
    store.places["/symlink"].symlink_to(str(text)[:-2] + "AA")


def plant_symlink(store):
    store.places["/file"].unlink()
    store.places["/file"].symlink_to("/etc/passwd")


def put_back_deleted(store):
    old = store.raw("/file")
    driver = store.driver
    driver.open()
    driver.fs.unlink(*driver.split("/file"))
    driver.close()
    store.learn()
    store.places["/file"].write_bytes(old)


def node_in_place(store):
    store.places["/file"].unlink()
    os.mkfifo(store.places["/file"])


def change_attribute(store):
    (name,) = os.listxattr(store.places["/file"])
    value = os.getxattr(store.places["/file"], name)
    os.setxattr(store.places["/file"], name, value[:-1] + bytes([value[-1] ^ 1]))


def change_folder_attribute(store):
    (name,) = os.listxattr(store.places["/folder"])
    os.setxattr(store.places["/folder"], name, b"x" * 40)


def unmap_page(store):
    # The slots of holes hold the pages of the map; every other one is a hole.
    raw = store.raw("/many holes")
    for index in range(1, 2 * HOLES, 2):
        at = 512 + index * STRIDE
        if any(raw[at : at + STRIDE]):
            store.set_record("/many holes", index, bytes(STRIDE))


def lose_sidecar(store):
    (sidecar,) = store.places["/folder"].glob(".ckfs-name.*")
    sidecar.unlink()


def change_sidecar(store):
    (sidecar,) = store.places["/folder"].glob(".ckfs-name.*")
    sidecar.write_bytes(sidecar.read_bytes()[:-1])


def lose_long_entry(store):
    store.places[f"/folder/{LONG}"].unlink()


LOST = ".ckfs-long"

ATTACKS = [
    (flip_chunk, "damaged", "chunks", "/file", [(1, 3)]),
    (zero_chunk, "damaged", "chunks", "/file", [(1, 2), (3, 4)]),
    (other_files_chunk, "damaged", "chunks", "/file", [(1, 3)]),
    (flip_header, "damaged", "header", "/file", []),
    (flip_wrapped_key, "damaged", "header", "/file", []),
    (cut, "damaged", "cut", "/file", [(2, 5)]),
    (cut_to_nothing, "damaged", "header", "/file", []),
    (extend, "damaged", "extended", "/file", []),
    (swap_chunks, "forged", "chunks-moved", "/file", [(1, 3)]),
    (copy_chunk, "forged", "chunks-moved", "/file", [(2, 3)]),
    (older_chunk, "forged", "chunk-set", "/file", []),
    (older_file, "forged", "rolled-back", "/file", []),
    (dirty_header_put_back, "forged", "unsealed", "/file", []),
    (delete, "forged", "deleted", "/file", []),
    (swap_files, "forged", "moved", "/file /neighbour", []),
    (copy_over, "forged", "moved", "/file", []),
    (break_link, "forged", "copied", "/other folder/link", []),
    (swap_folders, "forged", "moved", "/folder /other folder", []),
    (flip_record, "damaged", "directory-record", "/folder/deep", []),
    (delete_record, "damaged", "directory-record", "/folder/deep", []),
    (delete_folder, "forged", "deleted", "/folder/deep", []),
    (swap_symlinks, "forged", "moved", "/symlink /other symlink", []),
    (change_symlink, "damaged", "symlink", "/symlink", []),
    (plant_symlink, "damaged", "symlink", "/file", []),
    (put_back_deleted, "forged", "unknown", "/file", []),
    (node_in_place, "forged", "planted", "/file", []),
    (change_attribute, "damaged", "attribute", "/file", []),
    (change_folder_attribute, "damaged", "attribute", "/folder", []),
    (unmap_page, "damaged", "extent-map", "/many holes", []),
]


@pytest.mark.parametrize(
    ("attack", "verdict", "kind", "paths", "chunks"),
    ATTACKS,
    ids=[one[0].__name__ for one in ATTACKS],
)
def test_what_was_done_is_told(store, attack, verdict, kind, paths, chunks):
    attack(store)
    report = store.scrub()
    expected = paths.split(" /")
    found = sorted(one.path.lstrip("/") for one in report.findings)
    assert found == sorted(one.lstrip("/") for one in expected), told(report)
    for one in report.findings:
        assert (one.verdict, one.kind) == (verdict, kind), told(report)
        assert one.message and one.remedy
        assert one.chunks == chunks
        size = len(CONTENT)
        assert one.ranges == [(first * SIZE, min(end * SIZE, size)) for first, end in chunks]
    assert report.result == verdict
    assert report.exit_code == {"damaged": 40, "forged": 41}[verdict]
    # Everything else was verified all the same.
    assert report.files + report.symlinks + report.nodes >= len(FILES) + 2


PLAIN = ("flip_chunk", "delete", "swap_files", "swap_folders", "older_file", "put_back_deleted")


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one[0].__name__ in PLAIN], ids=PLAIN)
def test_what_was_done_is_told_with_plaintext_names(plain, attack):
    attack[0](plain)
    report = plain.scrub()
    assert {(one.verdict, one.kind) for one in report.findings} == {attack[1:3]}
    assert report.exit_code == {"damaged": 40, "forged": 41}[attack[1]]


def test_a_file_of_another_folder_is_moved_and_missed(store):
    move_to_another_folder(store)
    assert {(verdict, kind) for verdict, kind, _path in told(store.scrub())} == {
        ("forged", "moved"),
        ("forged", "deleted"),
    }


def test_without_a_content_database_what_is_gone_is_not_missed_and_that_is_said(store):
    delete(store)
    for name in os.listdir(os.path.dirname(store_database(store))):
        if name.startswith("contentdb"):
            os.unlink(os.path.join(os.path.dirname(store_database(store)), name))
    report = store.scrub()
    assert told(report) == [] and report.content_database == "none"
    assert any("no content database" in note for note in report.notes)


def store_database(store):
    with store.opened() as opened:
        return os.path.join(opened.host_folder, "contentdb.sqlite")


def test_a_lost_sidecar_hides_a_name_and_its_content_is_verified(store):
    lose_sidecar(store)
    found = only(store.scrub())
    assert (found.verdict, found.kind) == ("damaged", "sidecar-lost")
    assert LOST in found.place and "salvage" in found.remedy


def test_a_changed_sidecar_hides_a_name(store):
    change_sidecar(store)
    found = only(store.scrub())
    assert (found.verdict, found.kind) == ("damaged", "sidecar")


def test_a_sidecar_without_its_entry_is_left_over_and_the_entry_is_missed(store):
    lose_long_entry(store)
    report = store.scrub()
    assert {one[:2] for one in told(report)} == {
        ("leftover", "sidecar-orphan"),
        ("forged", "deleted"),
    }


def test_a_stopped_drivers_temporaries_are_left_over(store):
    (store.places["/folder"] / ".ckfs-tmp-0011223344556677").write_bytes(b"")
    report = store.scrub()
    assert told(report)[0][:2] == ("leftover", "temporary")
    assert report.result == "clean" and report.exit_code == 0


@pytest.mark.parametrize(
    ("pattern", "client"),
    [
        ("{}.sync-conflict-20261121-101500-ABCDEF7", "Syncthing"),
        ("{} (alice's conflicted copy 2026-11-21)", "Dropbox"),
        ("{} (conflicted copy 2026-11-21 101500)", "Nextcloud"),
        ("{}_conflict-20261121-101500", "ownCloud"),
        ("{}-LAPTOP-4711", "OneDrive"),
        ("{}-LAPTOP-safeBackup-0001", "OneDrive"),
        ("{}.conflict1", "rclone"),
        ("{} (1)", "a sync client"),
        ("{}~unheard of", "a sync client"),
    ],
)
def test_a_sync_clients_conflict_copy_is_no_attack(store, pattern, client):
    place = store.places["/file"]
    shutil.copyfile(place, place.with_name(pattern.format(place.name)))
    report = store.scrub()
    found = only(report)
    assert (found.verdict, found.kind) == ("foreign", "conflict-copy")
    assert f"that {client} made, of /file; its content is whole" in found.message
    assert report.exit_code == 0


def test_a_conflict_copy_says_that_it_is_damaged(store):
    place = store.places["/file"]
    copy = place.with_name(f"{place.name} (conflicted copy 2026-11-21 101500)")
    shutil.copyfile(place, copy)
    with open(copy, "r+b") as file:
        file.seek(600)
        file.write(b"no")
    found = only(store.scrub())
    assert found.kind == "conflict-copy" and "not whole" in found.message


@pytest.mark.parametrize(
    "name", ["report (conflicted copy 2026-11-21 101500).odt", "report-LAPTOP.odt"]
)
def test_a_conflict_copy_among_plaintext_names(plain, name):
    plain.written("/report.odt", b"words")
    plain.learn()
    path = os.path.join(plain.path, "report.odt")
    shutil.copyfile(path, os.path.join(plain.path, name))
    found = only(plain.scrub())
    assert (found.verdict, found.kind) == ("foreign", "conflict-copy")
    assert "/report.odt; its content is whole" in found.message


def test_a_copy_of_a_folders_record_is_the_drivers_and_no_attack(store):
    record = store.places["/folder"] / RECORD_NAME
    shutil.copyfile(record, record.with_name(RECORD_NAME + " (conflicted copy 2026-11-21 101500)"))
    assert told(store.scrub())[0][:2] == ("foreign", "conflict-copy")


@pytest.mark.parametrize("template_name", ["store", "plain"])
def test_what_others_put_into_a_store_is_foreign(template_name, request):
    store = request.getfixturevalue(template_name)
    with open(os.path.join(store.path, "desktop.ini"), "w") as file:
        file.write("[ViewState]")
    os.makedirs(os.path.join(store.path, ".stfolder", "below"))
    with open(os.path.join(store.path, ".stfolder", "below", "x"), "w") as file:
        file.write("x")
    report = store.scrub()
    assert {(one.verdict, one.kind, one.place) for one in report.findings} == {
        ("foreign", "foreign", "desktop.ini"),
        ("foreign", "foreign", ".stfolder"),
    }
    assert report.exit_code == 0


def test_below_a_damaged_folder_everything_is_still_verified(store):
    record = store.places["/folder"] / RECORD_NAME
    record.write_bytes(b"x" * 104)
    store.flip("/folder/inner", 700)
    report = store.scrub()
    assert {(one.verdict, one.kind) for one in report.findings} == {
        ("damaged", "directory-record"),
        ("damaged", "chunks"),
    }
    clean = sum(map(len, FILES.values())) - 8 * SIZE + (HOLES + 1) * SIZE
    assert report.verified_bytes == clean - SIZE


@pytest.mark.parametrize(
    ("document", "old", "new", "verdict"),
    [
        ("keystore.json", '"workload": "onedrive"', '"workload": "teams"', "damaged"),
        ("keystore.json", '"store_id": "', '"store": "', "damaged"),
        ("store.json", '"chunk_size": 4096', '"chunk_size": 8192', "damaged"),
    ],
)
def test_a_changed_document_is_told_by_what_opens_it(store, document, old, new, verdict):
    place = pathlib.Path(store.path, ".ckfs", document)
    raw = place.read_text().replace('":"', '": "')
    assert old in raw
    place.write_text(raw.replace(old, new))
    with pytest.raises(Exception, match=r"\S") as caught:
        store.opened()
    found = scrubkeys.finding_of(caught.value)
    assert (found.verdict, found.place) == (verdict, f".ckfs/{document}")


def test_a_keystore_that_was_put_back_is_forged(store):
    keystore = pathlib.Path(store.path, ".ckfs", "keystore.json")
    old = keystore.read_bytes()
    store.driver.open()
    make_site(store.driver, b"alice")
    store.driver.close()
    keystore.write_bytes(old)
    with pytest.raises(Exception, match=r"\S") as caught:
        store.opened()
    assert scrubkeys.finding_of(caught.value).verdict == "forged"


def test_a_whole_store_that_was_put_back(store, tmp_path):
    store.written("/neighbour", b"before")  # from here on there is a checkpoint to compare with
    subprocess.run(["cp", "-a", store.path, tmp_path / "old"], check=True)
    store.written("/file", b"new" * 1000)
    assert told(store.scrub()) == []
    shutil.rmtree(store.path)
    (tmp_path / "old").rename(store.path)
    kinds = {one[:2] for one in told(store.scrub())}
    assert {("forged", "store-rolled-back"), ("forged", "rolled-back")} <= kinds


def test_an_audit_log_that_was_cut(store):
    with store.opened() as opened:
        log = pathlib.Path(opened.host_folder, "audit.log")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:1] + lines[2:]))
    found = only(store.scrub())
    assert (found.verdict, found.kind) == ("forged", "audit-log")


def test_what_lies_in_the_control_folder_and_is_not_ours(store):
    pathlib.Path(store.path, ".ckfs", "x").write_bytes(b"")
    assert told(store.scrub()) == [("foreign", "control-folder", "")]


def test_a_site_is_part_of_the_scrub(store):
    store.driver.open()
    make_site(store.driver, b"alice")
    store.driver.write_file("/alice/hers", b"hers")
    place = store.driver.backing_path("/alice/hers")
    store.driver.close()
    store.learn()
    assert told(store.scrub()) == []
    os.rename(place, os.path.join(store.path, "moved"))
    kinds = {one[:2] for one in told(store.scrub())}
    assert kinds == {("forged", "moved"), ("forged", "deleted")}


def test_what_a_killed_driver_left_is_pending(store):
    driver = store.driver
    driver.open()
    handle = driver.fs.open(driver.number("/file"), os.O_WRONLY)
    driver.fs.write(handle, 5 * SIZE, b"x" * SIZE)
    driver.write_file("/made in between", b"new")
    driver.drop()
    report = store.scrub()
    assert {one[0] for one in told(report)} == {"pending"}, told(report)
    assert "/file" in {one.path for one in report.findings}
    assert report.exit_code == 0
    assert any("mount the store once" in note for note in report.notes)
    driver.open()
    driver.close()


def test_damage_is_damage_also_after_a_stop(store):
    driver = store.driver
    driver.open()
    driver.drop()
    store.flip("/file", 512 + STRIDE)
    found = [one for one in store.scrub().findings if one.verdict == "damaged"]
    assert [(one.kind, one.path) for one in found] == [("chunks", "/file")]


def test_beside_a_driver_what_it_is_changing_is_in_use(store):
    driver = store.driver
    lock = StoreLock(store.path, store.state_dir, read_only=False)
    driver.open()
    handle = driver.fs.open(driver.number("/file"), os.O_WRONLY)
    driver.fs.write(handle, 6 * SIZE, b"x" * SIZE)
    store.flip("/neighbour", 512 + STRIDE)
    report = store.scrub(settle=0.0)
    assert report.mounted
    assert {(one.verdict, one.path) for one in report.findings} == {
        ("in-use", "/file"),
        ("damaged", "/neighbour"),
    }
    driver.fs.release(handle)
    driver.close()
    lock.release()


def test_beside_a_driver_a_change_that_ends_is_nothing(store, monkeypatch):
    driver = store.driver
    lock = StoreLock(store.path, store.state_dir, read_only=False)
    driver.open()
    handle = driver.fs.open(driver.number("/file"), os.O_WRONLY)
    driver.fs.write(handle, 6 * SIZE, b"x" * SIZE)
    paused = []

    def pause(seconds):
        paused.append(seconds)
        if len(paused) == 1:
            driver.fs.release(handle)
            driver.fs.checkpoints.run()

    monkeypatch.setattr("fsdriver.scrub.time.sleep", pause)
    report = store.scrub(settle=0.0)
    assert told(report) == [] and len(paused) == 1
    driver.close()
    lock.release()


def test_beside_a_driver_a_deletion_is_told_once_it_stays(store):
    """Nothing tells it from a deletion that the driver has not committed, but that it stays so."""
    driver = store.driver
    lock = StoreLock(store.path, store.state_dir, read_only=False)
    driver.open()
    driver.fs.unlink(*driver.split("/neighbour"))
    store.places["/file"].unlink()
    paused = []

    def pause(_seconds):
        paused.append(_seconds)
        driver.fs.checkpoints.run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsdriver.scrub.time.sleep", pause)
        report = store.scrub(settle=0.0)
    assert told(report) == [("forged", "deleted", "/file")]
    assert len(paused) < 6  # two commits were enough
    driver.close()
    lock.release()


def test_beside_an_idle_driver_a_deletion_is_told_at_the_end(store):
    driver = store.driver
    lock = StoreLock(store.path, store.state_dir, read_only=False)
    driver.open()
    store.places["/file"].unlink()
    assert told(store.scrub(settle=0.0)) == [("forged", "deleted", "/file")]
    driver.close()
    lock.release()


def test_beside_a_driver_names_that_keep_changing_are_in_use(store):
    driver = store.driver
    lock = StoreLock(store.path, store.state_dir, read_only=False)
    driver.open()
    driver.fs.unlink(*driver.split("/file"))

    def pause(_seconds):
        driver.write_file("/other", b"x")
        driver.fs.unlink(*driver.split("/other"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsdriver.scrub.time.sleep", pause)
        report = store.scrub(settle=0.0)
    assert told(report) == [("in-use", "deleted", "/file")]
    driver.close()
    lock.release()


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (errors.RootKeyUnavailable, "key", 14),
        (errors.RootKeyRefused, "key-refused", 15),
        (errors.RootKeyMissing, "key-missing", 13),
    ],
)
def test_a_site_without_its_key_is_told_once_and_asked_for_once(store, error, kind, code):
    store.driver.open()
    alice = bytes.fromhex(make_site(store.driver, b"alice"))
    store.driver.mkdir("/alice/deep")
    for number in range(5):
        store.driver.write_file(f"/alice/deep/{number}", b"hers")
    store.driver.close()
    with store.opened() as opened:
        lease, asked = opened.hierarchy.lease, []

        def answer(site_id):
            if site_id != alice:
                return lease(site_id)
            asked.append(site_id)
            raise error("the vault says so")

        opened.hierarchy.lease = answer
        report = Scrub(opened).run("2026-11-22T00:00:00Z")
    assert {(one.verdict, one.kind) for one in report.findings} == {("unverified", kind)}
    assert len(report.findings) == 2 and len(asked) == 1  # in the keystore, and where it begins
    assert "ckfs-keys status" in report.findings[1].remedy
    assert report.exit_code == code and report.result == "unverified"


def test_a_key_that_is_taken_away_in_the_middle_ends_no_scrub(store):
    with store.opened() as opened:
        root = bytes.fromhex(opened.document.site_id)
        scrub = Scrub(opened, meter=Revoker(opened.sites.lease(root)))
        report = scrub.run("2026-11-22T00:00:00Z")
    assert report.findings and {one.verdict for one in report.findings} == {"unverified"}
    assert {one.kind for one in report.findings} == {"key-refused"}
    assert report.exit_code == 15


class Revoker:
    """After the third file the policy is revoked."""

    def __init__(self, lease):
        self.lease, self.left = lease, 3

    def bytes_read(self, count):
        pass

    def file_done(self):
        self.left -= 1
        if not self.left:
            self.lease.end(errors.RootKeyRefused("revoked"))
