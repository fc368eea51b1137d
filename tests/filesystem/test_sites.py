"""Sites: their own keys, everything below belongs to them, nothing is moved across."""

import errno
import os

import pytest
from driver import CALLER

from fsdriver import store
from fsdriver.control import MAKE_SITE, SITE, Control
from fsdriver.errors import Damaged
from fsdriver.inodes import ROOT
from keyhierarchy.creation import create_site
from keyhierarchy.errors import TransitionRefused


@pytest.fixture
def with_site(driver):
    record = make_site(driver, b"alice")
    driver.site = record
    return driver


def make_site(driver, name, workload="onedrive"):
    document = store.load(driver.store)
    site_id = create_site(
        store.control_folder(driver.store),
        driver.state_dir,
        bytes.fromhex(document.store_id),
        os.urandom(16),
        workload,
    )
    driver.fs.announce_site(ROOT, name, site_id, CALLER)
    driver.fs.mkdir(ROOT, name, 0o755, CALLER)
    return site_id.hex()


def test_everything_below_belongs_to_the_site(with_site):
    driver = with_site
    driver.mkdir("alice/d")
    driver.write_file("alice/d/f", b"hers")
    driver.write_file("mine", b"mine")
    driver.reopen()
    assert driver.read_file("alice/d/f") == b"hers"
    for path in ("alice", "alice/d", "alice/d/f"):
        assert driver.fs.site_of(driver.number(path)).hex() == driver.site
    assert driver.fs.site_of(driver.number("mine")).hex() != driver.site


def test_a_nameless_file_belongs_to_the_site_of_its_folder(with_site):
    fs = with_site.fs
    alice = with_site.number("alice")
    attributes, handle = fs.tmpfile(alice, 0o600, os.O_RDWR, CALLER)
    assert fs.site_of(attributes.number).hex() == with_site.site
    with pytest.raises(OSError, match="EXDEV"):
        fs.link(attributes.number, ROOT, b"mine")
    fs.setxattr(attributes.number, b"user.colour", b"red", CALLER)
    fs.link(attributes.number, alice, b"hers")
    fs.release(handle)
    with_site.reopen()
    assert with_site.fs.getxattr(with_site.number("alice/hers"), b"user.colour") == b"red"


def test_nothing_is_moved_or_linked_across(with_site):
    driver = with_site
    driver.write_file("mine", b"mine")
    driver.write_file("alice/hers", b"hers")
    alice = driver.number("alice")
    with pytest.raises(OSError) as caught:  # noqa: PT011 its errno is compared
        driver.fs.rename(ROOT, b"mine", alice, b"mine")
    assert caught.value.errno == errno.EXDEV
    with pytest.raises(OSError) as caught:  # noqa: PT011 as above
        driver.fs.link(driver.number("alice/hers"), ROOT, b"hers")
    assert caught.value.errno == errno.EXDEV
    assert driver.read_file("mine") == b"mine"


def test_a_site_s_folder_may_be_renamed_where_it_stands(with_site):
    driver = with_site
    driver.write_file("alice/hers", b"hers")
    driver.fs.rename(ROOT, b"alice", ROOT, b"bob")
    driver.reopen()
    assert driver.read_file("bob/hers") == b"hers"


def test_an_announcement_serves_one_mkdir_of_its_name(with_site):
    driver = with_site
    driver.mkdir("other")
    assert driver.fs.site_of(driver.number("other")).hex() != driver.site
    driver.fs.rmdir(ROOT, b"alice")
    driver.mkdir("alice")
    assert driver.fs.site_of(driver.number("alice")).hex() != driver.site


def test_a_folder_of_a_site_planted_elsewhere_is_refused(with_site):
    driver = with_site
    driver.mkdir("alice/d")
    driver.mkdir("d")
    hers = driver.backing_path("alice/d")
    mine = driver.backing_path("d")
    driver.close()
    os.replace(os.path.join(hers, ".ckfs-dir"), os.path.join(mine, ".ckfs-dir"))
    driver.open()
    with pytest.raises(Damaged):
        driver.names(driver.number("d"))


def test_the_mount_says_which_site_and_makes_none_for_others(with_site):
    driver = with_site
    control = Control(driver.fs, driver.store, dict, lambda site_id: {"site_id": site_id.hex()})
    driver.fs.control = control
    assert driver.site.encode() in driver.fs.getxattr(driver.number("alice"), SITE)
    order = b'{"name": "eve", "site_id": "%s"}' % driver.site.encode()
    with pytest.raises(PermissionError):
        driver.fs.setxattr(ROOT, MAKE_SITE, order, CALLER._replace(uid=4242))
    for bad in (b"", b"{}", b'{"name": "x", "site_id": "zz"}'):
        with pytest.raises(OSError, match="no site to make"):
            driver.fs.setxattr(ROOT, MAKE_SITE, bad, CALLER)


def test_an_unknown_policy_is_refused_and_changes_nothing(driver):
    document = store.load(driver.store)
    place = os.path.join(store.control_folder(driver.store), "keystore.json")
    with open(place, "rb") as file:
        before = file.read()
    with pytest.raises(TransitionRefused, match="no policy"):
        create_site(
            store.control_folder(driver.store),
            driver.state_dir,
            bytes.fromhex(document.store_id),
            os.urandom(16),
            "teams",
            policy="0" * 32,
        )
    with open(place, "rb") as file:
        assert file.read() == before
