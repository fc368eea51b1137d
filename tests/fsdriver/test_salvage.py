"""What salvage gets out of a damaged file, and whether it says rightly what it did not get."""

import os
import stat

import pytest

from fsdriver.errors import HeaderInvalid, WrongArguments
from fsdriver.quarantine import Repair, plan
from fsdriver.salvage import find, salvage
from keyhierarchy.errors import WrappedKeyInvalid
from tests.fsdriver.scrubbed import CONTENT, FILES, HOLES, LONG, SIZE, STRIDE, Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("template")))


@pytest.fixture
def store(template, tmp_path):
    (tmp_path / "s").mkdir()
    return template.copy(str(tmp_path / "s"))


@pytest.fixture
def got(store, tmp_path):
    """Salvage a file; returns the result and the bytes."""

    def get(wanted, out="out"):
        with store.opened() as opened:
            result = salvage(opened, find(opened, str(wanted)), str(tmp_path / out))
        return result, (tmp_path / out).read_bytes()

    return get


def zeroed(content, *ranges):
    content = bytearray(content)
    for start, end in ranges:
        content[start:end] = bytes(end - start)
    return bytes(content)


@pytest.mark.parametrize("path", ["/file", "folder/inner", "/sparse", f"/folder/{LONG}"])
def test_a_whole_file_comes_out_whole(got, path):
    result, content = got(path)
    assert result.whole and result.missing == [] and result.size_from == "header"
    assert content == FILES["/" + path.lstrip("/")]


def test_holes_are_not_missing(got):
    result, content = got("/many holes")
    assert result.whole and len(content) == (2 * HOLES + 1) * SIZE
    assert result.recovered_bytes == (HOLES + 1) * SIZE
    assert content[: 2 * SIZE] == b"\1" * SIZE + bytes(SIZE)


def test_the_missing_ranges_are_exact(store, got, tmp_path):
    store.flip("/file", 512 + STRIDE + 100)
    store.flip("/file", 512 + 4 * STRIDE + 30)
    result, content = got("/file")
    missing = [(SIZE, 2 * SIZE), (4 * SIZE, len(CONTENT))]
    assert result.missing == missing and not result.whole
    assert content == zeroed(CONTENT, *missing)
    assert result.recovered_bytes == 3 * SIZE
    assert stat.S_IMODE(os.stat(tmp_path / "out").st_mode) == 0o600


def test_a_file_that_was_cut(store, got):
    with open(store.places["/file"], "r+b") as file:
        file.truncate(512 + 2 * STRIDE + 77)
    result, content = got("/file")
    assert result.missing == [(2 * SIZE, len(CONTENT))]
    assert content == zeroed(CONTENT, (2 * SIZE, len(CONTENT)))


def test_without_the_sealed_part_the_length_gives_the_size(store, got):
    store.flip("/file", 300)
    store.flip("/file", 512 + 2 * STRIDE + 100)
    result, content = got("/file")
    assert result.size_from == "length" and result.generation == 0 and not result.whole
    assert result.missing == [(2 * SIZE, 3 * SIZE)]
    assert content == zeroed(CONTENT, (2 * SIZE, 3 * SIZE))


def test_without_the_sealed_part_pages_of_the_map_are_known(store, got):
    whole, _content = got("/many holes")
    store.flip("/many holes", 300)
    result, content = got("/many holes", "again")
    assert result.recovered_bytes == whole.recovered_bytes
    assert len(content) == whole.size
    # One hole held the map; that the others are holes is not known any more.
    assert sum(end - start for start, end in result.missing) == (HOLES - 1) * SIZE


def test_without_the_map_what_is_a_hole_is_not_known(store, got):
    raw = store.raw("/many holes")
    for index in range(1, 2 * HOLES, 2):
        if any(raw[512 + index * STRIDE : 512 + (index + 1) * STRIDE]):
            store.set_record("/many holes", index, bytes(STRIDE))
    result, content = got("/many holes")
    assert result.recovered_bytes == (HOLES + 1) * SIZE and not result.whole
    assert any("holes" in note for note in result.notes)
    assert content[2 * SIZE : 3 * SIZE] == b"\1" * SIZE


def test_what_was_put_behind_the_end_does_not_harm(store, got):
    with open(store.places["/file"], "ab") as file:
        file.write(bytes(3 * STRIDE))
    result, content = got("/file")
    assert result.missing == [] and content == CONTENT
    assert any("extended" in note for note in result.notes)


def test_what_a_killed_driver_wrote_behind_its_last_seal_is_there(store, got):
    driver = store.driver
    driver.open()
    handle = driver.fs.open(driver.number("/file"), os.O_WRONLY)
    driver.fs.write(handle, len(CONTENT), b"x" * (8 * SIZE - len(CONTENT)))
    driver.drop()
    result, content = got("/file")
    assert any("mount it once" in note for note in result.notes)
    # Its last chunk may lie in the journal, in its longer form; what is missing is said.
    expected = CONTENT + b"x" * (8 * SIZE - len(CONTENT))
    assert len(content) == len(expected) and result.missing in ([], [(len(CONTENT), 5 * SIZE)])
    assert content == zeroed(expected, *result.missing)


def test_an_older_chunk_is_given_out_and_said(store, got):
    old = store.record("/file", 1)
    store.written("/file", b"new" * 1000, offset=SIZE)
    store.set_record("/file", 1, old)
    result, content = got("/file")
    assert content == CONTENT and result.missing == []
    assert not result.whole and any("older" in note for note in result.notes)


def test_a_file_that_was_moved_or_lies_in_quarantine_or_elsewhere(store, got, tmp_path):
    place = store.places["/file"]
    elsewhere = tmp_path / "carried away"
    elsewhere.write_bytes(place.read_bytes())
    moved = store.places["/folder"] / "moved"
    place.rename(moved)
    for number, wanted in enumerate((moved, moved.relative_to(store.path), elsewhere)):
        assert got(wanted, f"out {number}")[1] == CONTENT
    with store.opened() as opened:
        repair = Repair(opened, "2026-11-22T00:00:00Z")
        assert repair.run(plan(opened, store.scrub())) == []
    assert got(f"{repair.place}/000001", "out 9")[1] == CONTENT


def test_nothing_is_overwritten_and_nothing_is_left_behind(store, got, tmp_path):
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(WrongArguments, match="not there yet"):
        got("/file", "taken")
    assert (tmp_path / "taken").read_bytes() == b"mine"
    (tmp_path / "link").symlink_to(tmp_path / "aimed at")
    with pytest.raises(WrongArguments, match="not there yet"):
        got("/file", "link")
    assert not (tmp_path / "aimed at").exists()
    with pytest.raises(WrongArguments, match="no file of the store"):
        got("/nowhere")
    with pytest.raises(WrongArguments, match="no file of the store"):
        got("/folder")


def test_no_plaintext_goes_into_the_store(store, tmp_path):
    (tmp_path / "way").symlink_to(store.path)
    with store.opened() as opened:
        for out in (store.path + "/out", str(tmp_path / "way" / "out")):
            with pytest.raises(WrongArguments, match="lies in the store"):
                salvage(opened, find(opened, "/file"), out)
    assert not os.path.exists(store.path + "/out")


def test_without_its_key_there_is_nothing(store, got, tmp_path):
    store.flip("/file", 60)
    with pytest.raises(WrappedKeyInvalid):
        got("/file")
    store.places["/neighbour"].write_bytes(b"short")
    with pytest.raises(HeaderInvalid):
        got("/neighbour")
    assert not (tmp_path / "out").exists()
