"""What a mount shows: everything read in whole, and what could not be."""

import os
import stat

from fsdriver.errors import CkfsError
from fsdriver.filesystem import Filesystem
from fsdriver.inodes import ROOT
from keyhierarchy.errors import KeyHierarchyError
from tests.crash.states.workloads import CHUNK

REFUSALS = (OSError, CkfsError, KeyHierarchyError)
"""What a program sees as an errno; anything else is a bug."""


class Found:
    """What a mount shows under some path; `number` is the inode's."""

    __slots__ = ("content", "entries", "kind", "number", "xattrs")

    def __init__(self, kind: str, number: int) -> None:
        self.kind = kind
        self.number = number
        self.content = b""
        self.xattrs: dict[str, bytes] = {}
        self.entries: dict[str, int | bytes] = {}
        """Of a folder: inode numbers; of symlinks the targets."""

    def __eq__(self, other: object) -> bool:
        fields = ("kind", "number", "content", "xattrs", "entries")
        return all(getattr(self, one) == getattr(other, one) for one in fields)

    __hash__ = None


class Look:
    """What one mount shows: `found` by inode number, and what could not be shown."""

    def __init__(self, fs: Filesystem) -> None:
        self._fs = fs
        self.found: dict[int, Found] = {}
        self.troubles: list[tuple[str, str]] = []
        self._held: list[int] = []
        """Handles of files with several names: each further one meets a file that is open."""
        self.folder(ROOT, "")
        for handle in self._held:
            fs.release(handle)

    def folder(self, number: int, path: str) -> None:
        """Everything below."""
        found = self.found[number] = Found("d", number)
        handle = None
        try:
            handle = self._fs.opendir(number)
            listed = []
            for name, attributes, _next in self._fs.readdir(handle, 0):
                if name not in (b".", b".."):
                    self._fs.count_lookup(attributes.number)
                    listed.append((os.fsdecode(name), attributes))
            found.xattrs = self._xattrs(number)
        except Exception as error:  # noqa: BLE001 that is what is looked for
            self._trouble(path, error)
            return
        finally:
            if handle is not None:
                self._fs.releasedir(handle)
        for name, attributes in listed:
            self._entry(found, path, name, attributes)

    def _entry(self, folder: Found, path: str, name: str, attributes) -> None:
        inner, number = f"{path}/{name}", attributes.number
        if name.endswith(".ckfs-foreign"):
            self.troubles.append(("foreign", f"{inner} is shown"))
        elif stat.S_ISDIR(attributes.mode):
            folder.entries[name] = number
            self.folder(number, inner)
        elif stat.S_ISLNK(attributes.mode):
            try:
                folder.entries[name] = self._fs.readlink(number)
            except Exception as error:  # noqa: BLE001 that is what is looked for
                self._trouble(inner, error)
        else:
            folder.entries[name] = number
            # Under every name: each is bound by itself. The file's inode is the same.
            self._file(inner, attributes)

    def _file(self, path: str, attributes) -> None:
        number = attributes.number
        found = Found("f", number)
        handle = None
        try:
            handle = self._fs.open(number, os.O_RDONLY)
            size = self._fs.getattr(number).size
            found.content = bytes(self._fs.read(handle, 0, size + CHUNK))
            found.xattrs = self._xattrs(number)
            if len(found.content) != size:
                self.troubles.append(("short read", f"{path} has {size} bytes by stat"))
            if attributes.size != size:
                was = f"{attributes.size} bytes before it was opened, {size} since"
                self.troubles.append(("stat", f"{path} has {was}"))
        except Exception as error:  # noqa: BLE001 that is what is looked for
            self._trouble(path, error)
            return
        finally:
            if handle is not None and attributes.nlink > 1:
                self._held.append(handle)
            elif handle is not None:
                self._fs.release(handle)
        self.found[number] = found

    def _xattrs(self, number: int) -> dict[str, bytes]:
        names = self._fs.listxattr(number)
        return {os.fsdecode(name): self._fs.getxattr(number, name) for name in names}

    def _trouble(self, path: str, error: Exception) -> None:
        kind = "unreadable" if isinstance(error, REFUSALS) else "escaped"
        self.troubles.append((kind, f"{path or '/'}: {type(error).__name__}: {error}"))
