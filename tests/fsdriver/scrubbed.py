"""A store with one of everything, to be damaged by hand and scrubbed."""

import copy
import os
import pathlib
import subprocess

from fsdriver.contentdb_rebuild import rebuild
from fsdriver.offline import OfflineStore
from fsdriver.scrub import Scrub
from fsdriver.storelock import StoreLock
from tests.filesystem.driver import CALLER, Driver

SIZE, STRIDE = 4096, 4136
CONTENT = b"".join(bytes([number]) * SIZE for number in range(5))[: 4 * SIZE + 100]
OTHER = CONTENT[::-1]
LONG = "long " * 40
HOLES = 250
FILES = {
    "/file": CONTENT,
    "/neighbour": OTHER,
    "/folder/inner": OTHER,
    f"/folder/{LONG}": b"a long name",
    "/folder/deep/empty": b"",
    "/linked": b"one of two",
    "/other folder/link": b"one of two",
    "/sparse": b"\1" + bytes(9 * SIZE) + b"\2",
    "/many holes": b"",
}


class Store:
    """The store, closed; `places` are its backing files and folders by path."""

    def __init__(self, folder: str, *, plaintext_names: bool = False) -> None:
        self.driver = driver = Driver(folder, plaintext_names=plaintext_names)
        for name in ("/folder", "/folder/deep", "/other folder"):
            driver.mkdir(name)
        for path, content in FILES.items():
            if path == "/sparse":
                driver.write_file(path, b"\1")
                driver.write_file(path, b"\2", offset=9 * SIZE + 1)
            elif path == "/many holes":
                self._make_holes(path)
            elif path != "/other folder/link":
                driver.write_file(path, content)
        linked, other = driver.number("/linked"), driver.number("/other folder")
        driver.fs.link(linked, other, b"link")
        driver.fs.symlink(*driver.split("/symlink"), b"file", CALLER)
        driver.fs.symlink(*driver.split("/other symlink"), b"neighbour", CALLER)
        driver.fs.mknod(*driver.split("/pipe"), 0o10600, 0, CALLER)
        driver.fs.setxattr(driver.number("/file"), b"user.colour", b"blue", CALLER)
        driver.fs.setxattr(driver.number("/folder"), b"user.colour", b"red", CALLER)
        names = (*FILES, "/folder", "/folder/deep", "/other folder", "/symlink", "/other symlink")
        self.places = {name: pathlib.Path(driver.backing_path(name)) for name in names}
        # An inode has one path; the second name is the folder's only entry.
        other_folder = self.places["/other folder"]
        (self.places["/other folder/link"],) = (
            one for one in other_folder.iterdir() if not one.name.startswith(".ckfs")
        )
        self.path, self.state_dir = driver.store, driver.state_dir
        driver.close()

    def copy(self, folder: str) -> "Store":
        """Another of the same, elsewhere."""
        subprocess.run(["cp", "-a", os.path.dirname(self.path) + "/.", folder], check=True)
        new = copy.copy(self)
        new.path, new.state_dir = os.path.join(folder, "store"), os.path.join(folder, "state")
        new.places = {
            name: pathlib.Path(new.path, place.relative_to(self.path))
            for name, place in self.places.items()
        }
        new.driver = copy.copy(self.driver)
        new.driver.store, new.driver.state_dir = new.path, new.state_dir
        return new

    def _make_holes(self, path: str) -> None:
        """So many that the extent map needs a page."""
        fs = self.driver.fs
        _made, handle = fs.create(*self.driver.split(path), 0o644, os.O_WRONLY, CALLER)
        for chunk in range(0, 2 * HOLES, 2):
            fs.write(handle, chunk * SIZE, b"\1" * SIZE)
        fs.write(handle, 2 * HOLES * SIZE, b"\1" * SIZE)
        fs.flush(handle)
        fs.release(handle)

    def learn(self) -> None:
        """Make the content database of the store as it is now."""
        with self.opened() as store:
            lock = StoreLock(store.path, store.host_folder, read_only=False)
            rebuild(store, lambda _counts: None)
            lock.release()

    def opened(self) -> OfflineStore:
        return OfflineStore.open(self.path, self.state_dir)

    def scrub(self, **options):
        with self.opened() as store:
            return Scrub(store, **options).run("2026-11-22T00:00:00Z")

    def written(self, path: str, content: bytes, *, offset: int = 0) -> None:
        """A change through the driver."""
        self.driver.open()
        self.driver.write_file(path, content, offset=offset)
        self.driver.close()

    # The store's owner at work

    def raw(self, path: str) -> bytearray:
        return bytearray(self.places[path].read_bytes())

    def flip(self, path: str, offset: int) -> None:
        raw = self.raw(path)
        raw[offset] ^= 1
        self.places[path].write_bytes(raw)

    def record(self, path: str, index: int) -> bytes:
        return bytes(self.raw(path)[512 + index * STRIDE : 512 + (index + 1) * STRIDE])

    def set_record(self, path: str, index: int, record: bytes) -> None:
        raw = self.raw(path)
        raw[512 + index * STRIDE : 512 + index * STRIDE + len(record)] = record
        self.places[path].write_bytes(raw)

    def swap(self, first: str, second: str) -> None:
        one, other = self.places[first], self.places[second]
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)

    def files(self) -> dict[str, tuple]:
        """Every entry of the store with its bytes and mode, to see what changed."""
        found = {}
        for folder, folders, names in os.walk(self.path):
            for name in (*folders, *names):
                place = os.path.join(folder, name)
                status = os.lstat(place)
                content: object = b""
                if os.path.islink(place):
                    content = os.readlink(place)
                elif os.path.isfile(place):
                    content = pathlib.Path(place).read_bytes()
                found[os.path.relpath(place, self.path)] = (status.st_mode, content)
        return found
