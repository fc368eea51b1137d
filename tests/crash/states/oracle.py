"""What may be there after a crash: POSIX semantics of the workload, and what was promised of it.

**Semantics.** A workload is a list of steps (`workloads`), each one system call of a program. The
oracle follows them on a plain model (`posix`). After each step it keeps a version of the whole
tree; version 0 is the synced base.

**Durable versions.** After `done` steps were acknowledged and step `begun` (the same, or one more)
was begun, everything that is seen must come from versions `since`..`begun`, where `since` is
- for a kill: `done`, for everything. What was acknowledged is there, exactly.
- for a power cut: for the content of a file, its last fsync or fdatasync, or the last sync; for
  attributes and the entries of a folder, the last fsync of it, or the last sync.

**Allowed**
1. Content: as long as one of those versions, or some whole chunks between the shortest and the
   longest; and each chunk as it is in one of those versions, cut or filled up with zeros to that
   length. A file that was never synced may be as if empty.
2. Attributes: each has the value, or the absence, of one of those versions.
3. Entries of a folder: all of them as in one of those versions.
4. A name that a fsynced file had at its fsync, and kept in all versions since, is there.
5. A file that is durable and has a name in all versions since is found under some name: a rename
   shows the old name or the new one.
Nothing else may be shown, and whatever is shown can be read. One thing is told and no promise
(FORMAT.md 12.6): a stop in the middle of renaming a folder over an empty one may leave the empty
one under the old name.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.crash.states.posix import ROOT, Posix, Thing, Version
from tests.crash.states.workloads import CHUNK, Step


class Seen(NamedTuple):
    """What a mount shows of one object; ids are the oracle's, a symlink stands by its target."""

    kind: str
    content: bytes
    xattrs: dict[str, bytes]
    entries: dict[str, int | bytes]


class Violation(NamedTuple):
    """A broken promise."""

    kind: str
    what: str


class Oracle:
    """One workload's versions and syncs."""

    def __init__(self, base: Posix) -> None:
        self._posix = base
        self.versions = [base.version]
        self._content_since: list[dict[int, int]] = [{}]
        self._attributes_since: list[dict[int, int]] = [{}]
        self._entries_since: list[dict[int, int]] = [{}]
        self._all_since = [0]
        self._fsyncs: list[tuple[int, int]] = []
        """(step, id of the file), of every fsync."""

    def add(self, step: Step) -> bool:
        """Whether the step is possible; then it is the next one."""
        syncs = step.call in ("fsync", "fdatasync", "fsyncdir")
        target = self._posix.find(step.arguments[0]) if syncs else None
        if not self._posix.take(step):
            return False
        self.versions.append(self._posix.version)
        number = len(self.versions) - 1
        content, entries = dict(self._content_since[-1]), dict(self._entries_since[-1])
        attributes = dict(self._attributes_since[-1])
        everything = self._all_since[-1]
        if step.call == "fdatasync":
            content[target] = number
        elif step.call == "fsync":
            content[target] = attributes[target] = number
            self._fsyncs.append((number, target))
        elif step.call == "fsyncdir":
            attributes[target] = entries[target] = number
        elif step.call == "tmpfile":
            # The link waits for the disk: what gets a name that way is there as a whole.
            content[self._posix.find(step.arguments[0])] = number
        elif step.call in ("sync", "syncfs", "unmount"):
            everything = number
        self._content_since.append(content)
        self._attributes_since.append(attributes)
        self._entries_since.append(entries)
        self._all_since.append(everything)
        return True

    def find(self, path: str) -> int | None:
        """The id under a path, as of the last step."""
        return self._posix.find(path)

    def judge(
        self, seen: dict[int, Seen], done: int, begun: int, *, power: bool
    ) -> Iterator[Violation]:
        """Every promise that what a mount shows breaks."""
        judged = _Judge(self, seen, done, begun, power=power)
        for one, thing in seen.items():
            if thing.kind == "f":
                yield from judged.content(one, thing)
            else:
                yield from judged.entries(one, thing)
            yield from judged.attributes(one, thing)
        yield from judged.names()
        yield from judged.lost()

    def content_since(self, one: int, done: int) -> int:
        """The step whose content of a file is durable after a power cut."""
        return max(self._content_since[done].get(one, 0), self._all_since[done])

    def attributes_since(self, one: int, done: int) -> int:
        """The step whose attributes of a file or folder are."""
        return max(self._attributes_since[done].get(one, 0), self._all_since[done])

    def entries_since(self, one: int, done: int) -> int:
        """The step whose entries of a folder are."""
        return max(self._entries_since[done].get(one, 0), self._all_since[done])

    def fsyncs(self, done: int) -> list[tuple[int, int]]:
        """(step, file id) of all that returned, and of the syncs of everything."""
        return [one for one in self._fsyncs if one[0] <= done]

    def all_since(self, done: int) -> int:
        """The last sync of everything that returned."""
        return self._all_since[done]


class _Judge:
    """One state."""

    def __init__(
        self, oracle: Oracle, seen: dict[int, Seen], done: int, begun: int, *, power: bool
    ) -> None:
        self._oracle = oracle
        self._seen = seen
        self._done = done
        self._begun = begun
        self._power = power

    def _versions(self, one: int, since: int) -> list[Thing]:
        found = [
            version[one]
            for version in self._oracle.versions[since : self._begun + 1]
            if one in version
        ]
        if one not in self._oracle.versions[since]:
            found.insert(0, Thing(found[0].kind) if found else Thing("f"))
        return found

    def content(self, one: int, thing: Seen) -> Iterator[Violation]:
        since = self._oracle.content_since(one, self._done) if self._power else self._done
        versions = [version.content for version in self._versions(one, since)]
        sizes = {len(content) for content in versions}
        size = len(thing.content)
        low, high = min(sizes), max(sizes)
        if size not in sizes and not (low < size < high and size % CHUNK == 0):
            yield Violation("size", f"file {one} has {size} bytes, not one of {sorted(sizes)}")
            return
        padded = [content[:size].ljust(size, b"\0") for content in versions]
        older = [
            version[one].content[:size].ljust(size, b"\0")
            for version in self._oracle.versions[:since]
            if one in version
        ]
        for start in range(0, size, CHUNK):
            chunk = thing.content[start : start + CHUNK]
            if all(chunk != content[start : start + CHUNK] for content in padded):
                stale = any(chunk == content[start : start + CHUNK] for content in older)
                yield Violation(
                    "stale chunk" if stale else "torn chunk",
                    f"chunk {start // CHUNK} of file {one} is "
                    + ("of before its last sync" if stale else "neither old nor new"),
                )

    def attributes(self, one: int, thing: Seen) -> Iterator[Violation]:
        since = self._oracle.attributes_since(one, self._done) if self._power else self._done
        versions = [dict(version.xattrs) for version in self._versions(one, since)]
        for name in {*thing.xattrs, *(name for version in versions for name in version)}:
            if thing.xattrs.get(name) not in [version.get(name) for version in versions]:
                value = thing.xattrs.get(name)
                yield Violation("attribute", f"{name} of {one} is {value!r}")

    def _has_leftover(self, one: int, thing: Seen, since: int) -> bool:
        """A folder that took the place of an empty one, which is still under the old name."""
        versions = self._oracle.versions
        for before, after in pairwise(range(max(0, since - 1), self._begun + 1)):
            if one not in versions[before] or one not in versions[after]:
                continue
            was, shown = _shown(versions[before], one), _shown(versions[after], one)
            more = {name: entry for name, entry in thing.entries.items() if name not in shown}
            if (
                len(more) == 1
                and {**shown, **more} == thing.entries
                and set(more) <= set(was)
                and all(_is_empty_folder(versions[before], entry) for entry in more.values())
            ):
                return True
        return False

    def entries(self, one: int, thing: Seen) -> Iterator[Violation]:
        since = self._oracle.entries_since(one, self._done) if self._power else self._done
        for version in self._oracle.versions[since : self._begun + 1]:
            if one in version and thing.entries == _shown(version, one):
                return
        if self._has_leftover(one, thing, since):
            yield Violation("leftover", f"folder {one} shows an empty folder that was replaced")
            return
        if all(one not in version for version in self._oracle.versions[since : self._begun + 1]):
            yield Violation("names", f"folder {one} should be gone")
            return
        expected = [
            _shown(version, one)
            for version in self._oracle.versions[since : self._begun + 1]
            if one in version
        ]
        yield Violation("names", f"folder {one} shows {thing.entries}, not one of {expected}")

    def names(self) -> Iterator[Violation]:
        """A name that was fsynced with its file, and is still to be there."""
        if not self._power:
            return
        for step, one in self._oracle.fsyncs(self._done):
            kept = set(_names(self._oracle.versions[step], one))
            for version in self._oracle.versions[step : self._begun + 1]:
                kept &= set(_names(version, one))
            for folder, name in kept:
                if folder in self._seen and self._seen[folder].entries.get(name) != one:
                    yield Violation("lost name", f"{name} in folder {folder} was fsynced: {one}")

    def lost(self) -> Iterator[Violation]:
        """A durable object that always had a name."""
        since = dict.fromkeys(self._oracle.versions[0], 0) if self._power else {}
        begin = self._done if not self._power else self._oracle.all_since(self._done)
        since |= dict.fromkeys(self._oracle.versions[begin], begin)
        if self._power:
            since |= {one: step for step, one in self._oracle.fsyncs(self._done)}
        for one, step in since.items():
            versions = self._oracle.versions[step : self._begun + 1]
            named = all(
                one == ROOT or (one in version and _named(version, one)) for version in versions
            )
            if named and versions[0][one].kind != "l" and one not in self._seen:
                yield Violation("lost object", f"{one} has no name any more")


def _names(version: Version, one: int) -> Iterator[tuple[int, str]]:
    for folder, thing in version.items():
        for name, target in thing.entries:
            if target == one:
                yield folder, name


def _named(version: Version, one: int) -> bool:
    """Whether a path leads there from the root."""
    return one == ROOT or any(_named(version, folder) for folder, _name in _names(version, one))


def _is_empty_folder(version: Version, one: int | bytes) -> bool:
    thing = version.get(one) if isinstance(one, int) else None
    return thing is not None and thing.kind == "d" and not thing.entries


def _shown(version: Version, folder: int) -> dict[str, int | bytes]:
    return {
        name: version[one].content if version[one].kind == "l" else one
        for name, one in version[folder].entries
    }
