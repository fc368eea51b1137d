"""A store against lists of plaintext checksums, as coreutils write them."""

import hashlib
import os
import subprocess

import pytest

from fsdriver.checksumlist import parse
from fsdriver.errors import WrongArguments
from fsdriver.verify import Verify
from tests.fsdriver.scrubbed import FILES, HOLES, LONG, SIZE, Store

CONTENTS = {**FILES, "/many holes": (b"\1" * SIZE + bytes(SIZE)) * HOLES + b"\1" * SIZE}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("template")))


@pytest.fixture
def store(template, tmp_path):
    return template.copy(str(tmp_path))


def checksums(contents=CONTENTS, algorithm="sha256"):
    return b"".join(
        hashlib.new(algorithm, content).hexdigest().encode() + b"  ." + path.encode() + b"\n"
        for path, content in contents.items()
    )


def verified(store, content, *, algorithm=None, **options):
    with store.opened() as opened:
        return Verify(opened, parse(content, algorithm), **options).run()


def outcomes(report):
    return {(one.outcome, one.path) for one in report.files}


@pytest.mark.parametrize("algorithm", ["sha224", "sha256", "sha384", "sha512", "blake2b"])
def test_a_store_that_is_what_the_list_says(store, algorithm):
    report = verified(store, checksums(algorithm=algorithm), algorithm=algorithm)
    assert report.files == [] and report.exit_code == 0
    assert report.counts["match"] == len(CONTENTS)


def test_differ_missing_extra_and_damaged_are_told_apart(store):
    contents = {**CONTENTS, "/file": b"something else", "/not there": b""}
    del contents["/folder/inner"]
    store.flip("/neighbour", 600)
    report = verified(store, checksums(contents))
    assert outcomes(report) == {
        ("differ", "/file"),
        ("missing", "/not there"),
        ("extra", "/folder/inner"),
        ("damaged", "/neighbour"),
    }
    assert report.exit_code == 40
    assert report.counts == {
        "match": len(CONTENTS) - 3,
        "differ": 1,
        "damaged": 1,
        "missing": 1,
        "extra": 1,
    }


def test_a_difference_has_its_own_exit_code_and_extra_files_can_be_allowed(store):
    contents = dict(CONTENTS)
    del contents["/folder/inner"]
    assert verified(store, checksums(contents)).exit_code == 42
    assert verified(store, checksums(contents), allow_extra=True).exit_code == 0
    contents["/file"] = b"x"
    assert verified(store, checksums(contents), allow_extra=True).exit_code == 42


def test_a_forged_file_is_not_only_different(store):
    store.swap("/file", "/neighbour")
    report = verified(store, checksums())
    assert outcomes(report) == {("damaged", "/file"), ("damaged", "/neighbour")}
    assert report.exit_code == 41


def test_below_a_folder(store):
    names = ("inner", LONG, "deep/empty")
    content = checksums({f"/{name}": CONTENTS[f"/folder/{name}"] for name in names})
    report = verified(store, content, base="/folder")
    assert report.files == [] and report.counts["match"] == 3
    absolute = content.replace(b"  ./", b" */mnt/files/folder/")
    report = verified(store, absolute, base="/folder", mountpoint="/mnt/files/folder")
    assert report.files == [] and report.counts["match"] == 3
    with pytest.raises(WrongArguments, match="outside"):
        verified(store, content.replace(b"./inner", b"../file"), base="/folder")


def test_the_lists_that_coreutils_write(store, tmp_path):
    names = ["plain", "with\nnewline", "with \\ backslash", "with\rreturn", "  spaces ", "umlaut ü"]
    store.driver.open()
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        store.driver.write_file("/" + name, name.encode())
    store.driver.close()
    for command in (
        ["sha256sum"],
        ["sha256sum", "--binary"],
        ["sha256sum", "--tag"],
        ["sha512sum"],
        ["b2sum", "--tag"],
    ):
        done = subprocess.run([*command, *names], cwd=tmp_path, capture_output=True, check=True)
        report = verified(store, done.stdout, allow_extra=True)
        assert report.files == [] and report.counts["match"] == len(names), command
    done = subprocess.run(["b2sum", *names], cwd=tmp_path, capture_output=True, check=True)
    report = verified(store, done.stdout, algorithm="blake2b", allow_extra=True)
    assert report.files == []


@pytest.mark.parametrize(
    "line",
    [
        b"no checksum",
        b"abcd  short",
        b"0" * 64 + b" name",
        b"g" * 64 + b"  name",
        b"MD5 (name) = " + b"0" * 32,
        b"\\" + b"0" * 64 + b"  bad \\x escape",
        b"SHA256 (name) = " + b"0" * 62,
    ],
)
def test_what_is_no_list_is_refused_with_its_line(store, line):
    with pytest.raises(WrongArguments, match="line 2 "):
        verified(store, b"0" * 64 + b"  x\n" + line + b"\n")


def test_two_checksums_of_one_path_are_refused(store):
    with pytest.raises(WrongArguments, match="two checksums of /file"):
        verified(store, checksums({"/file": b"1"}) + checksums({"/file": b"2"}))


def test_no_file_is_written_where_plaintext_could_stay(store):
    before = store.files()
    verified(store, checksums())
    assert store.files() == before


def test_a_folder_or_symlink_is_no_file(store):
    report = verified(store, checksums({"/symlink": b"", "/folder": b""}), allow_extra=True)
    assert outcomes(report) == {("differ", "/symlink"), ("missing", "/folder")}


def test_what_a_killed_driver_left_is_not_said_to_differ_for_that_alone(store):
    driver = store.driver
    driver.open()
    handle = driver.fs.open(driver.number("/file"), os.O_WRONLY)
    driver.fs.write(handle, 6 * SIZE, b"x" * SIZE)
    driver.drop()
    report = verified(store, checksums())
    assert ("differ", "/file") in outcomes(report)
    assert any("mount the store once" in one.message for one in report.files)
    assert report.exit_code == 42 and any("mount the store once" in note for note in report.notes)
