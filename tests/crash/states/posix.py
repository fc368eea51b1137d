"""POSIX semantics of a workload on a plain model: files are bytes, folders are dicts.

Every object has an id for ever; a version of the whole tree is never altered once it is made.
"""

from typing import NamedTuple

from tests.crash.states.workloads import Step

ROOT = 0


class Thing(NamedTuple):
    """A file, folder or symlink; which one says `kind`: f, d or l."""

    kind: str
    content: bytes = b""
    """Of a file; a symlink's target."""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    entries: tuple[tuple[str, int], ...] = ()


Version = dict[int, Thing]


class Posix:
    """The model of the tree while steps are taken; `version` is replaced, never altered."""

    def __init__(self) -> None:
        self.version: Version = {ROOT: Thing("d")}
        self.held: frozenset[int] = frozenset()
        """Files that the program has open."""
        self._next = 1

    def find(self, path: str) -> int | None:
        """The id under a path."""
        at = ROOT
        for part in filter(None, path.split("/")):
            found = dict(self.version[at].entries).get(part)
            if found is None:
                return None
            at = found
        return at

    def take(self, step: Step) -> bool:
        """Whether a program may do this; if so, it is done."""
        before = self.version
        self.version = dict(before)
        if getattr(self, "_" + step.call)(*step.arguments):
            return True
        self.version = before
        return False

    # The calls. Each answers whether it is possible.

    def _entries(self, folder: int, **changed: int | None) -> None:
        entries = dict(self.version[folder].entries) | changed
        kept = tuple(sorted((name, one) for name, one in entries.items() if one is not None))
        self.version[folder] = self.version[folder]._replace(entries=kept)

    def _place(self, path: str) -> tuple[int, str] | None:
        parent, _slash, name = path.rpartition("/")
        folder = self.find(parent)
        if folder is None or self.version[folder].kind != "d":
            return None
        return folder, name

    def _make(self, path: str, thing: Thing) -> bool:
        place = self._place(path)
        if place is None or self.find(path) is not None:
            return False
        self.version[self._next] = thing
        self._entries(place[0], **{place[1]: self._next})
        self._next += 1
        return True

    def _file(self, path: str) -> int | None:
        found = self.find(path)
        return found if found is not None and self.version[found].kind == "f" else None

    def _create(self, path: str) -> bool:
        return self._make(path, Thing("f")) and self._open(path)

    def _tmpfile(self, path: str, data: bytes) -> bool:
        """Made and written without a name, then given this one."""
        return self._make(path, Thing("f", data))

    def _mkdir(self, path: str) -> bool:
        return self._make(path, Thing("d"))

    def _symlink(self, path: str, target: bytes) -> bool:
        return self._make(path, Thing("l", target))

    def _open(self, path: str) -> bool:
        one = self._file(path)
        self.held |= {one} - {None}
        return one is not None

    def _close(self, path: str) -> bool:
        one = self._file(path)
        was_held = one in self.held
        self.held -= {one}
        return was_held

    def _fsync(self, path: str) -> bool:
        return self._file(path) is not None

    _fdatasync = _fsync

    def _write(self, path: str, offset: int | None, data: bytes) -> bool:
        one = self._file(path)
        if one not in self.held:
            return False
        content = self.version[one].content
        at = len(content) if offset is None else offset
        self._content(one, content[:at].ljust(at, b"\0") + data + content[at + len(data) :])
        return True

    def _punch(self, path: str, offset: int, length: int) -> bool:
        one = self._file(path)
        if one not in self.held:
            return False
        content = self.version[one].content
        end = min(offset + length, len(content))
        self._content(one, content[:offset] + bytes(max(0, end - offset)) + content[end:])
        return True

    def _truncate(self, path: str, size: int) -> bool:
        one = self._file(path)
        if one is None:
            return False
        self._content(one, self.version[one].content[:size].ljust(size, b"\0"))
        return True

    def _content(self, one: int, content: bytes) -> None:
        self.version[one] = self.version[one]._replace(content=content)

    def _setxattr(self, path: str, name: str, value: bytes) -> bool:
        one = self.find(path)
        if one is None or self.version[one].kind == "l":
            return False
        xattrs = tuple(sorted((dict(self.version[one].xattrs) | {name: value}).items()))
        self.version[one] = self.version[one]._replace(xattrs=xattrs)
        return True

    def _link(self, path: str, new: str) -> bool:
        one, place = self._file(path), self._place(new)
        if one is None or place is None or self.find(new) is not None:
            return False
        self._entries(place[0], **{place[1]: one})
        return True

    def _unlink(self, path: str) -> bool:
        one, place = self.find(path), self._place(path)
        if one is None or place is None or self.version[one].kind == "d":
            return False
        self._entries(place[0], **{place[1]: None})
        return True

    def _rmdir(self, path: str) -> bool:
        one, place = self.find(path), self._place(path)
        if one in (None, ROOT) or place is None:
            return False
        if self.version[one].kind != "d" or self.version[one].entries:
            return False
        self._entries(place[0], **{place[1]: None})
        return True

    def _rename(self, path: str, new: str) -> bool:
        one, place, target = self.find(path), self._place(path), self._place(new)
        victim = self.find(new)
        if one is None or place is None or target is None or victim == one:
            return False
        if (new + "/").startswith(path + "/"):
            return False
        if victim is not None:
            kinds = {self.version[one].kind == "d", self.version[victim].kind == "d"}
            if len(kinds) > 1 or self.version[victim].entries:
                return False
        self._entries(place[0], **{place[1]: None})
        self._entries(target[0], **{target[1]: one})
        return True

    def _exchange(self, path: str, new: str) -> bool:
        one, two = self.find(path), self.find(new)
        place, target = self._place(path), self._place(new)
        if one in (None, two) or two is None or place is None or target is None:
            return False
        self._entries(place[0], **{place[1]: two})
        self._entries(target[0], **{target[1]: one})
        return True

    def _fsyncdir(self, path: str) -> bool:
        found = self.find(path)
        return found is not None and self.version[found].kind == "d"

    def _sync(self) -> bool:
        return True

    _unmount = _syncfs = _sync

    def _checkpoint(self, _waits: int) -> bool:
        return True
