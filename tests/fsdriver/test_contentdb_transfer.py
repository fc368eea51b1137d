"""Export, import and rebuild of a real store's content database, on one host and on another."""

import os
import shutil
import sqlite3
import stat
import subprocess
from contextlib import closing

import pytest
from driver import Driver

from fsdriver import contentdb_document, contentdb_rebuild, contentdb_transfer
from fsdriver.backing import Backing
from fsdriver.contentdb import FILE_NAME, ContentDatabase
from fsdriver.contentdb_document import ExportInvalid
from fsdriver.contentdb_transfer import ExportOlder, NoDatabase
from fsdriver.errors import CkfsError, StoreDamaged, WrongArguments
from fsdriver.format.header import ClearHeader
from fsdriver.inodes import ROOT
from fsdriver.namespace import Caller
from fsdriver.offline import OfflineStore
from keyhierarchy.errors import AnchorMismatch

CALLER = Caller(os.geteuid(), os.getegid())
LONG = "n" * 200


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store with one of everything, and what it holds: path in the mount -> object."""
    folder = tmp_path_factory.mktemp("store")
    driver = Driver(str(folder))
    driver.mkdir("above")
    driver.mkdir("above/below")
    for path in ("a", "above/b", "above/below/" + LONG):
        driver.write_file(path, path.encode())
    driver.write_file("a", b"once more")
    driver.fs.link(driver.number("a"), driver.number("above"), b"hard link")
    driver.fs.symlink(ROOT, b"symlink", b"nowhere", CALLER)
    driver.fs.mknod(ROOT, b"pipe", stat.S_IFIFO | 0o600, 0, CALLER)
    driver.close()
    return folder


@pytest.fixture
def host(template, tmp_path):
    """A copy of the store and of the host's state, but for the database that the driver kept."""
    tmp_path.chmod(0o700)
    subprocess.run(["cp", "-a", f"{template}/.", str(tmp_path)], check=True)  # hard links, too
    for database in tmp_path.glob(f"state/stores/*/{FILE_NAME}*"):
        database.unlink()
    return tmp_path


@pytest.fixture
def store(host):
    with OfflineStore.open(str(host / "store"), str(host / "state")) as store:
        yield store


def database_of(store) -> ContentDatabase:
    return ContentDatabase.open(
        os.path.join(store.host_folder, FILE_NAME), store.store_id, complete_if_new=False
    )


def rebuild(store) -> contentdb_rebuild.Counts:
    return contentdb_rebuild.rebuild(store, lambda _counts: None)


def content(store) -> dict[str, dict[str, tuple[bytes, int]]]:
    """Folder id -> backing name -> object and generation, from the root on."""
    with closing(database_of(store)) as database:
        root = bytes.fromhex(store.hierarchy.sites()[0].root_directory_id)
        found, waiting = {}, [root]
        while waiting:
            folder = waiting.pop()
            texts = database.expected(folder)
            if texts or folder == root:
                found[folder] = {
                    text: (one, database.committed_generation(one)) for text, one in texts.items()
                }
                waiting += [one for one in texts.values() if one]
        assert database.committed_generation(root) == 1
        return found


def never(older):
    raise older


# Rebuild


@pytest.fixture
def stopped(tmp_path):
    """A driver, to be killed or to end well, whose last write replaced a chunk."""
    driver = Driver(str(tmp_path))
    driver.write_file("file", b"old")
    driver.reopen()
    driver.write_file("file", b"new")
    yield driver
    driver.drop()


def test_a_rebuild_waits_until_the_journal_is_in_place(stopped):
    stopped.drop()
    with OfflineStore.open(stopped.store, stopped.state_dir) as store:
        before = content(store)
        with pytest.raises(contentdb_rebuild.NotReplayed, match="mount the store once"):
            rebuild(store)
        assert content(store) == before
        os.unlink(contentdb_transfer.place_of(store.host_folder))
        with pytest.raises(contentdb_rebuild.NotReplayed):
            rebuild(store)
    stopped.open()
    assert stopped.read_file("file") == b"new"
    stopped.close()
    with OfflineStore.open(stopped.store, stopped.state_dir) as store:
        assert rebuild(store).unreadable == 0


def test_a_rebuild_does_not_wait_for_a_mount_that_only_a_rebuild_makes_possible(stopped):
    """The database is broken, or the store was put back: nothing else would take the journal."""
    stopped.checkpoint()
    stopped.write_file("file", b"newer")
    stopped.drop()
    with OfflineStore.open(stopped.store, stopped.state_dir) as store:
        place = contentdb_transfer.place_of(store.host_folder)
        with closing(sqlite3.connect(place)) as database, database:
            database.execute("UPDATE meta SET checkpoint = checkpoint + 100")
        assert rebuild(store).unreadable == 0
        with open(place, "r+b") as database:
            database.write(b"no database")
        assert rebuild(store).unreadable == 0
    stopped.open()
    assert stopped.read_file("file") == b"newer"


def test_a_rebuild_knows_every_entry(store, host):
    counts = rebuild(store)
    assert (counts.entries, counts.folders, counts.symlinks, counts.others) == (8, 3, 1, 1)
    assert (counts.unreadable, counts.foreign) == (0, 0)
    backing = {}
    for folder, folders, names in os.walk(host / "store"):
        if ".ckfs" in folders:
            folders.remove(".ckfs")
        texts = {*folders, *(n for n in names if not n.startswith((".ckfs-dir", ".ckfs-name")))}
        identity = (host / "store" / folder / ".ckfs-dir").read_bytes()[8:24]
        backing[identity] = texts
        for text in texts:
            place = os.path.join(folder, text)
            one, generation = content(store)[identity][text]
            if os.path.islink(place):
                assert (len(one), generation) == (16, 0)
            elif stat.S_ISFIFO(os.stat(place).st_mode):
                assert (one, generation) == (b"", 0)
            elif os.path.isdir(place):
                with open(os.path.join(place, ".ckfs-dir"), "rb") as record:
                    assert (one, generation) == (record.read()[8:24], 1)
            else:
                with open(place, "rb") as file:
                    assert one == ClearHeader.parse(file.read(512)).file_id
                assert generation >= 1
    assert {folder: set(texts) for folder, texts in content(store).items()} == backing
    with closing(database_of(store)) as database:
        assert database.complete
        assert database.unclean == database.checkpoint == 0
        (policy,) = database.policies()
        assert policy.policy_id.hex() == store.hierarchy.sites()[0].policy_id


def driver_on(host) -> Driver:
    """Of a store that is there."""
    driver = Driver.__new__(Driver)
    driver.store, driver.state_dir = str(host / "store"), str(host / "state")
    driver.backing = Backing()
    driver.open()
    return driver


def test_the_generations_are_those_of_the_headers(store, host):
    rebuild(store)
    before = content(store)
    driver = driver_on(host)
    driver.write_file("above/b", b"another content")
    changed = os.path.basename(driver.backing_path("above/b"))
    driver.close()
    rebuild(store)
    after = content(store)
    for folder, texts in after.items():
        for text, (one, generation) in texts.items():
            assert one == before[folder][text][0]
            if text == changed:
                assert generation > before[folder][text][1]
            else:
                assert generation == before[folder][text][1]


def test_what_a_killed_driver_left_is_still_recovered_after_a_rebuild(host):
    """Its headers may name what did not reach the disk, so they are not known for sure."""
    driver = driver_on(host)
    parent, name = driver.split("unsealed")
    _attributes, handle = driver.fs.create(parent, name, 0o644, os.O_WRONLY, CALLER)
    driver.fs.write(handle, 0, b"x" * 10_000)
    text = os.path.basename(driver.backing_path("unsealed"))
    with driver.tree.sealed(driver.tree.inodes.get(driver.number("unsealed")), writable=False) as f:
        generation = f.state.generation
    driver.drop()
    with OfflineStore.open(str(host / "store"), str(host / "state")) as store:
        rebuild(store)
        assert known_as(store, text)[1] == generation - 1
    driver = driver_on(host)
    assert driver.read_file("unsealed") in (b"", b"x" * 10_000)
    driver.close()


def entries_in(folder, kind) -> list[str]:
    """Backing names of one kind, those of files with the fewest links first."""
    found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".ckfs")]
    some = [
        entry for entry in found if stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) == kind
    ]
    some.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_nlink)
    return [entry.name for entry in some]


def known_as(store, text: str) -> tuple[bytes, int]:
    (found,) = [texts[text] for texts in content(store).values() if text in texts]
    return found


def test_what_a_rebuild_cannot_read_is_counted_and_known_by_name(store, host):
    top = host / "store"
    (file,) = entries_in(top, stat.S_IFREG)
    (above,) = entries_in(top, stat.S_IFDIR)
    (link,) = entries_in(top, stat.S_IFLNK)
    (below,) = entries_in(top / above, stat.S_IFDIR)
    backup = (top / file).read_bytes()
    (top / file).unlink()
    (top / file).write_bytes(backup[:200] + b"damage" + backup[206:])
    target = os.readlink(top / link)
    (top / link).unlink()
    (top / link).symlink_to(target[:-4] + "AAAA")
    (top / "a sync client's conflict copy").write_bytes(backup)
    os.truncate(top / above / below / ".ckfs-dir", 50)
    counts = rebuild(store)
    assert counts.foreign == 1
    assert counts.unreadable == 3
    assert {place for place, _why in counts.problems} == {file, link, f"{above}/{below}"}
    assert all(why for _place, why in counts.problems)
    for text in (file, link, below):
        assert known_as(store, text) == (b"", 0)


def test_a_file_in_another_ones_place_is_not_taken_for_it(store, host):
    (above,) = entries_in(host / "store", stat.S_IFDIR)
    one, linked = entries_in(host / "store" / above, stat.S_IFREG)
    shutil.copy(host / "store" / above / linked, host / "store" / above / one)
    counts = rebuild(store)
    assert [place for place, _why in counts.problems] == [f"{above}/{one}"]
    assert known_as(store, one) == (b"", 0)
    assert known_as(store, linked)[1] > 0


def test_a_folder_in_another_place_is_not_looked_into(store, host):
    (above,) = entries_in(host / "store", stat.S_IFDIR)
    (below,) = entries_in(host / "store" / above, stat.S_IFDIR)
    subprocess.run(["cp", "-a", f"{above}/{below}", "."], cwd=host / "store", check=True)
    counts = rebuild(store)
    assert (counts.entries, counts.folders) == (8, 3)
    assert (counts.foreign, counts.unreadable) == (1, 0)


def test_a_rebuild_replaces_a_database_that_is_damaged(store):
    rebuild(store)
    before = content(store)
    place = contentdb_transfer.place_of(store.host_folder)
    with open(place, "r+b") as file:
        file.write(b"not SQLite")
    with pytest.raises(StoreDamaged):
        content(store)
    rebuild(store)
    assert content(store) == before


def test_a_rebuild_that_fails_leaves_the_old_database(store):
    rebuild(store)
    with closing(database_of(store)) as database:
        database.begin_commit(12)()
        database.note_generation(b"only this one has", 5)
        database.begin_commit()()

    def stop(_counts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contentdb_rebuild.rebuild(store, stop)
    with closing(database_of(store)) as database:
        assert database.checkpoint == 12
        assert database.committed_generation(b"only this one has") == 5
    assert not [name for name in os.listdir(store.host_folder) if name.endswith(".new")]


# Export and import


@pytest.fixture
def exported(store, tmp_path):
    rebuild(store)
    with closing(database_of(store)) as database:
        database.begin_commit(5)()
    place = str(tmp_path / "export")
    contentdb_transfer.export(store, place)
    return place


@pytest.fixture
def other_host(host, tmp_path):
    """Has the root key and has never seen the store."""
    state = tmp_path / "other"
    state.mkdir(mode=0o700)
    shutil.copytree(host / "state" / "service-keys", state / "service-keys")
    with OfflineStore.open(str(host / "store"), str(state)) as store:
        assert store.hierarchy.first_sight
        yield store


def test_another_host_gets_what_this_one_knows(store, exported, other_host):
    before = content(store)
    assert stat.S_IMODE(os.stat(exported).st_mode) == 0o600
    head, compared = contentdb_transfer.take_over(other_host, exported, never)
    assert not compared
    assert head.meta.checkpoint == 5
    assert content(other_host) == before
    with closing(database_of(other_host)) as database, closing(database_of(store)) as mine:
        assert database.complete
        assert database.checkpoint == 5
        assert len(database.policies()) == 1
        assert database.policies() == mine.policies()
    again = exported + " again"
    contentdb_transfer.export(other_host, again)
    with open(exported, "rb") as one, open(again, "rb") as other:
        assert one.read() == other.read()


def test_a_name_that_is_no_text_survives(store, tmp_path, other_host):
    with closing(database_of(store)) as database:
        database.note_entry(b"D" * 16, "caf\udce9", b"O" * 16)
        database.begin_commit()()
    contentdb_transfer.export(store, str(tmp_path / "export"))
    contentdb_transfer.take_over(other_host, str(tmp_path / "export"), never)
    with closing(database_of(other_host)) as database:
        assert database.expected(b"D" * 16) == {"caf\udce9": b"O" * 16}
        assert not database.complete


def test_an_export_is_never_written_over_another_file(store, exported):
    with open(exported, "rb") as file:
        before = file.read()
    with pytest.raises(WrongArguments, match="name a new file"):
        contentdb_transfer.export(store, exported)
    with open(exported, "rb") as file:
        assert file.read() == before


def test_without_a_database_there_is_nothing_to_export(store, tmp_path):
    with pytest.raises(NoDatabase, match="mount the store once"):
        contentdb_transfer.export(store, str(tmp_path / "export"))
    assert not (tmp_path / "export").exists()


def test_a_forged_export_changes_nothing(store, exported, tmp_path):
    before = content(store)
    with open(exported, "rb") as file:
        raw = file.read()
    forged = str(tmp_path / "forged")
    for at in [0, 5, 9, 30, 90, len(raw) // 2, len(raw) - 1]:
        with open(forged, "wb") as file:
            file.write(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(CkfsError, match="export"):
            contentdb_transfer.take_over(store, forged, never)
    for text in (b"", raw[:-1], raw + b"\0", b"plain"):
        with open(forged, "wb") as file:
            file.write(text)
        with pytest.raises(ExportInvalid, match="make a new one"):
            contentdb_transfer.take_over(store, forged, never)
    with pytest.raises(WrongArguments, match="cannot be read"):
        contentdb_transfer.take_over(store, str(tmp_path / "nowhere"), never)
    with pytest.raises(WrongArguments, match="cannot be read"):
        contentdb_transfer.take_over(store, str(tmp_path), never)
    assert content(store) == before


def test_another_stores_export_is_refused(store, exported, tmp_path):
    (tmp_path / "second").mkdir()
    driver = Driver(str(tmp_path / "second"))
    driver.close()
    with (
        OfflineStore.open(driver.store, driver.state_dir) as second,
        pytest.raises(ExportInvalid, match=f"about store {store.store_id.hex()}"),
    ):
        contentdb_transfer.take_over(second, exported, never)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda database, _root: database.begin_commit(6), "checkpoint is number 5"),
        (
            lambda database, root: [
                database.note_generation(one, 1000)
                for one in sorted(database.expected(root).values())[-1:]
            ],
            "1 of its files and folders newer",
        ),
    ],
)
def test_an_older_export_is_taken_only_if_it_is_accepted(store, exported, change, words):
    root = bytes.fromhex(store.hierarchy.sites()[0].root_directory_id)
    before = content(store)
    with closing(database_of(store)) as database:
        change(database, root)
        database.begin_commit()()
    newer = content(store)
    with pytest.raises(ExportOlder, match=words):
        contentdb_transfer.take_over(store, exported, never)
    assert content(store) == newer
    asked = []
    _head, compared = contentdb_transfer.take_over(store, exported, asked.append)
    assert compared
    assert len(asked) == 1
    assert content(store) == before
    with closing(database_of(store)) as database:
        assert database.checkpoint == 5


def test_an_import_mends_a_damaged_database(store, exported):
    before = content(store)
    os.truncate(contentdb_transfer.place_of(store.host_folder), 4096)
    _head, compared = contentdb_transfer.take_over(store, exported, never)
    assert not compared
    assert content(store) == before


def with_policy(store, exported, place, **changes) -> None:
    """The same export by somebody who has the store's keys, and pins other things."""
    key = contentdb_transfer._mac_key(store)
    with open(exported, "rb") as file:
        parser = contentdb_document.Parser(file, key)
        rows = list(parser.rows())
    changed = [
        (table, contentdb_transfer.KnownPolicy(*values)._replace(**changes))
        if table == "policies"
        else (table, values)
        for table, values in rows
    ]
    with open(place, "wb") as file:
        file.writelines(contentdb_document.pack(parser.head, changed, key))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": bytes(32)}, "substituted"),
        ({"policy_id": bytes(16)}, "no longer has policy"),
        ({"tik_generation": 7}, "substituted"),
        ({"sealed_generation": 100}, "rolled back"),
    ],
)
def test_policies_that_the_store_contradicts(store, exported, tmp_path, changes, words):
    before = content(store)
    with_policy(store, exported, tmp_path / "same")
    contentdb_transfer.take_over(store, str(tmp_path / "same"), never)
    with_policy(store, exported, tmp_path / "contradicts", **changes)
    with pytest.raises(AnchorMismatch, match=words):
        contentdb_transfer.take_over(store, str(tmp_path / "contradicts"), never)
    assert content(store) == before


def test_a_host_that_has_pinned_other_keys_refuses(store, exported, monkeypatch):
    """Where the keystore of the moment agrees with the export, and the host was told otherwise."""
    from keyhierarchy.anchor import Anchor, AnchorFile, PolicyPin  # noqa: PLC0415

    known = AnchorFile(store.host_folder).load()
    pins = tuple(
        PolicyPin(
            policy_id=pin.policy_id,
            tik_generation=pin.tik_generation,
            fingerprint=bytes(32),
            sealed_generation=pin.sealed_generation,
        )
        for pin in known.policies
    )
    other = Anchor(
        store_id=known.store_id,
        first_seen=known.first_seen,
        keystore_generation=known.keystore_generation,
        policies=pins,
    )
    AnchorFile(store.host_folder).change(lambda _known: other)
    with pytest.raises(AnchorMismatch, match="has pinned another"):
        contentdb_transfer.take_over(store, exported, never)


def test_status_counts(store):
    rebuild(store)
    with closing(database_of(store)) as database:
        database.begin_session(True)
        database.begin_commit(8)()
    facts = contentdb_transfer.status(store.host_folder, store.store_id)
    assert facts["state"] == "complete"
    assert (facts["entries"], facts["files"], facts["folders"]) == (8, 3, 3)
    assert facts["entries_not_opened"] == 1
    assert (facts["policies"], facts["checkpoint"], facts["unclean_stops"]) == (1, 8, 1)
    assert facts["last_commit"].endswith("+00:00")
