"""A lease that ends stops everything at once, and lets it go on when it is granted again."""

import os

import pytest
from driver import CALLER

from fsdriver.format.names import NameCipher
from fsdriver.inodes import ROOT
from keyhierarchy.errors import RootKeyRefused

REASON = RootKeyRefused("the customer took the key back; ask them")


@pytest.fixture
def opened(driver):
    """A driver with a written, unsealed file that is open, and a folder with a symlink."""
    driver.mkdir("folder")
    driver.write_file("folder/closed", b"at rest")
    driver.fs.symlink(driver.number("folder"), b"link", b"closed", CALLER)
    driver.fs.setxattr(driver.number("folder"), b"user.note", b"n", CALLER)
    _attributes, handle = driver.fs.create(ROOT, b"open", 0o644, os.O_RDWR, CALLER)
    driver.fs.write(handle, 0, b"x" * 5000)
    driver.fs.write(handle, 5000, b"y")
    driver.handle = handle
    return driver


def lock(driver):
    lease = driver.hierarchy.lease(driver.tree.inodes.root.folder.site.lease.site_id)
    lease.end(REASON)
    driver.tree.inodes.root.folder.site.lock()
    return lease, driver.fs.lock_site(lease.site_id)


def operations(driver, numbers):
    fs = driver.fs
    folder, closed, link, opened = numbers
    return {
        "read": lambda: fs.read(driver.handle, 0, 10),
        "write": lambda: fs.write(driver.handle, 0, b"z"),
        "open": lambda: fs.open(closed, os.O_RDONLY),
        "create": lambda: fs.create(ROOT, b"new", 0o644, os.O_RDWR, CALLER),
        "mkdir": lambda: fs.mkdir(ROOT, b"new", 0o755, CALLER),
        "lookup": lambda: fs.lookup(ROOT, b"folder"),
        "getattr of a file": lambda: fs.getattr(closed),
        "getattr of an open file": lambda: fs.getattr(opened),
        "getattr of a folder": lambda: fs.getattr(folder),
        "opendir": lambda: fs.opendir(folder),
        "readlink": lambda: fs.readlink(link),
        "rename": lambda: fs.rename(ROOT, b"open", folder, b"o"),
        "unlink": lambda: fs.unlink(folder, b"closed"),
        "link": lambda: fs.link(closed, ROOT, b"hard"),
        "getxattr": lambda: fs.getxattr(folder, b"user.note"),
        "listxattr": lambda: fs.listxattr(folder),
        "symlink": lambda: fs.symlink(ROOT, b"s", b"t", CALLER),
    }


def test_nothing_answers_while_the_lease_has_ended_and_everything_after(opened):
    driver = opened
    numbers = [driver.number(p) for p in ("folder", "folder/closed", "folder/link", "open")]
    listing = driver.fs.opendir(ROOT)
    next(driver.fs.readdir(listing, 0))
    lease, known = lock(driver)
    assert set(numbers) <= {number for number, _parent, _name in known}
    for name, operation in operations(driver, numbers).items():
        with pytest.raises(RootKeyRefused) as caught:
            operation()
        assert driver.fs.errno_of(caught.value) == 128, name  # EKEYREVOKED
    with pytest.raises(RootKeyRefused):
        list(driver.fs.readdir(listing, 3))
    assert driver.fs.getattr(ROOT).number == ROOT  # so that `ckfs status` can be asked

    driver.hierarchy.renew(lease)
    assert bytes(driver.fs.read(driver.handle, 4999, 10)) == b"xy"
    driver.fs.write(driver.handle, 0, b"z")
    driver.fs.flush(driver.handle)
    driver.fs.release(driver.handle)
    driver.reopen()
    assert driver.read_file("open") == b"z" + b"x" * 4999 + b"y"
    assert driver.read_file("folder/closed") == b"at rest"


def test_a_file_is_sealed_before_its_keys_go(opened):
    driver = opened
    lock(driver)
    driver.drop()
    driver.open()
    number = driver.number("open")
    with driver.tree.sealed(driver.tree.inodes.get(number), writable=False) as file:
        assert not file.state.dirty
        assert file.state.size == 5001


def test_keys_and_plaintext_are_dropped(opened):
    driver = opened
    assert bytes(driver.fs.read(driver.handle, 10, 5)) == b"xxxxx"
    content = driver.tree.inodes.get(driver.number("open")).open
    plaintext = content._kept.chunks[0].plaintext
    assert any(plaintext)
    site = driver.tree.inodes.root.folder.site
    assert isinstance(site.names, NameCipher)
    lock(driver)
    assert not content._kept.chunks
    assert not any(plaintext)
    for secret in ("_keys", "_header_cipher", "cipher", "chunk_set"):
        assert not hasattr(content.file, secret)
    assert site._names is None


def test_a_close_after_the_lock_harms_nothing(opened):
    driver = opened
    lease, _known = lock(driver)
    driver.fs.flush(driver.handle)
    driver.fs.release(driver.handle)
    driver.hierarchy.renew(lease)
    assert driver.read_file("open") == b"x" * 5000 + b"y"
