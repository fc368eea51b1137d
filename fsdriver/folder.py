"""One folder of the store: its record, and its names as the mount and as the store have them.

Knows how a name is written into the store (encrypted, long, or plain) and which entries of a
backing folder are the driver's own. Does not know inodes or parents (FORMAT.md sections 7, 8).
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes

from fsdriver.backing import Backing
from fsdriver.errors import DirectoryRecordInvalid, NameInvalid, NotAFile, refuse
from fsdriver.format import base32hex, directory
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.names import NAME_MAX, RESERVED, NameCipher
from fsdriver.lease import Lease

_new = tuple.__new__

CONTROL_FOLDER: Final = ".ckfs"
LONG_ENTRY: Final = ".ckfs-long."
LONG_NAME: Final = ".ckfs-name."
TEMPORARY: Final = ".ckfs-tmp-"
FOREIGN_SUFFIX: Final = b".ckfs-foreign"
"""What an entry that this folder did not write is shown with."""

NAMES_KEPT: Final = 32768


class Site:
    """A site's lease and what its metadata key encrypts, for as long as the lease is valid."""

    __slots__ = ("_names", "lease")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._names: NameCipher | None = None

    @property
    def names(self) -> NameCipher:
        """Raises why the lease ended, once it has."""
        self.require()
        if self._names is None:
            self._names = NameCipher(self.lease.metadata_key)
        return self._names

    def require(self) -> None:
        """Every use of a folder asks here first; raises why the lease ended, once it has."""
        if not self.lease.valid:
            self.lease.require_valid()

    def lock(self) -> None:
        """Drop what was derived from the metadata key."""
        self._names = None


class BackingName(NamedTuple):
    """How one name is written into the store."""

    text: str
    binding: bytes
    sidecar: bytes = b""
    """For a long name: what its sidecar says."""


class Listed(NamedTuple):
    """One entry of a listing. `text` is empty for a foreign one's binding to be unknown."""

    name: bytes
    text: str
    kind: int
    foreign: bool
    number: int = 0
    """Of the backing inode; 0 for an entry that is not there."""


class KeptNames:
    """A bound on the names that the folders of a mount keep, all together; about 300 bytes each."""

    __slots__ = ("_caches", "_held")

    def __init__(self) -> None:
        self._caches: list[dict[bytes, BackingName]] = []
        self._held = 0

    @property
    def held(self) -> int:
        """How many there are."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether one more name would make room for itself."""
        return self._held >= NAMES_KEPT

    def keep(self, cache: dict[bytes, BackingName], name: bytes, known: BackingName) -> None:
        """In `cache`; once there are too many, all go."""
        if self._held >= NAMES_KEPT:
            for one in self._caches:
                one.clear()
            self._caches.clear()
            self._held = 0
        if not cache:
            self._caches.append(cache)
        cache[name] = known
        self._held += 1

    def keep_all(self, cache: dict[bytes, BackingName], met: dict[bytes, BackingName]) -> None:
        """In `cache`, if there is room for all without making any."""
        if met and self._held + len(met) <= NAMES_KEPT:
            if not cache:
                self._caches.append(cache)
            before = len(cache)
            cache.update(met)
            self._held += len(cache) - before


class Folder:
    """An open backing folder whose record has been verified."""

    __slots__ = (
        "_kept",
        "_known",
        "descriptor",
        "directory_id",
        "listed",
        "listed_at",
        "plaintext_names",
        "record",
        "site",
    )

    def __init__(
        self,
        descriptor: int,
        site: Site,
        record: DirectoryRecord,
        *,
        plaintext_names: bool,
        kept: KeptNames | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.site = site
        self.record = record
        self.directory_id = record.directory_id
        self.plaintext_names = plaintext_names
        self.listed: list[Listed] | None = None
        """The last listing, as long as it is kept."""
        self.listed_at = (0, 0)
        """The folder's times when it was listed, if nothing was foreign to it or missing."""
        self._known: dict[bytes, BackingName] = {}
        self._kept = kept or KeptNames()

    def lock(self) -> None:
        """Forget the names that were decrypted."""
        self.listed, self.listed_at = None, (0, 0)
        self._known.clear()

    def backing_name(self, name: bytes) -> BackingName:
        """Raises OSError ENAMETOOLONG, EINVAL, or EPERM for a name that the store keeps."""
        known = self._known.get(name)
        if known is not None:
            return known
        if len(name) > NAME_MAX:
            raise refuse(errno.ENAMETOOLONG)
        if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
            raise OSError(errno.EINVAL, "not a name of a file")
        text, binding = self.site.names.encrypt_name(self.directory_id, name)
        if self.plaintext_names:
            if name.startswith(RESERVED.encode()):
                raise OSError(errno.EPERM, f"names that begin with {RESERVED} are the store's own")
            known = BackingName(os.fsdecode(name), binding)
        elif len(text) > NAME_MAX:
            sidecar = text.encode()
            known = BackingName(LONG_ENTRY + _digest(sidecar), binding, sidecar)
        else:
            # A named tuple's own constructor is a function in Python; every name comes by here.
            known = _new(BackingName, (text, binding, b""))
        self._kept.keep(self._known, name, known)
        return known

    def name_of(self, backing: Backing, text: str) -> tuple[bytes, BackingName]:
        """The name behind a backing name; raises NameInvalid for what this folder did not write."""
        if self.plaintext_names:
            name = os.fsencode(text)
            return name, self.backing_name(name)
        sidecar = b""
        encrypted = text
        if text.startswith(LONG_ENTRY):
            sidecar = self._read_sidecar(backing, text)
            encrypted = sidecar.decode("ascii", "replace")
        name, binding = self.site.names.decrypt_name(self.record.directory_id, encrypted)
        known = BackingName(text, binding, sidecar)
        if not self._kept.full and name not in self._known:
            self._kept.keep(self._known, name, known)
        return name, known

    def _read_sidecar(self, backing: Backing, text: str) -> bytes:
        digest = text.removeprefix(LONG_ENTRY)
        try:
            descriptor = backing.open_file(self.descriptor, LONG_NAME + digest, writable=False)
        except OSError as error:
            raise NameInvalid(
                f"the entry {text!r} has lost the file {LONG_NAME + digest!r} that holds its name"
            ) from error
        try:
            sidecar = backing.read(descriptor, 2 * NAME_MAX, 0)
        finally:
            backing.close(descriptor)
        if _digest(sidecar) != digest or len(sidecar) <= NAME_MAX:
            raise NameInvalid(f"the file {LONG_NAME + digest!r} was changed in the store")
        return sidecar

    @contextmanager
    def announced(self, backing: Backing, name: BackingName) -> Iterator[None]:
        """Around making an entry: its long name, if it has one, lies in the store before it."""
        created = self._write_sidecar(backing, name)
        try:
            yield
        except BaseException:
            if created:
                self.remove_sidecar(backing, name)
            raise

    def _write_sidecar(self, backing: Backing, name: BackingName) -> bool:
        if not name.sidecar:
            return False
        text = _sidecar_of(name.text)
        try:
            descriptor = backing.create_file(self.descriptor, text, 0o644)
        except FileExistsError:
            return False
        try:
            backing.write(descriptor, [name.sidecar], 0)
            backing.sync_data(descriptor)
            backing.sync(self.descriptor)
        except OSError:
            backing.unlink(self.descriptor, text)
            raise
        finally:
            backing.close(descriptor)
        return True

    def remove_sidecar(self, backing: Backing, name: BackingName) -> None:
        """After a long name is gone."""
        if name.sidecar:
            with suppress(OSError):  # it is of no use, and of no harm; a scrub finds it
                backing.unlink(self.descriptor, _sidecar_of(name.text))

    def listing(self, backing: Backing) -> tuple[list[Listed], list[NameInvalid]]:
        """Every entry but the driver's own, and the reasons why some of them are foreign."""
        listed: list[Listed] = []
        reasons: list[NameInvalid] = []
        met: dict[bytes, BackingName] = {}
        decrypt = self.site.names.decrypt_name
        for text, kind, number in backing.inodes(self.descriptor):
            plain_or_long = self.plaintext_names or text.startswith(RESERVED)
            if plain_or_long and is_own(text):
                continue
            try:
                if plain_or_long:
                    name, _known = self.name_of(backing, text)
                else:
                    # As `name_of` does it: nearly all names are of this kind.
                    name, binding = decrypt(self.directory_id, text)
                    met[name] = _new(BackingName, (text, binding, b""))
                listed.append(_new(Listed, (name, text, kind, False, number)))
            except NameInvalid as error:
                reasons.append(error)
                listed.append(Listed(foreign_name(text), text, kind, True, number))
            except OSError as error:
                reasons.append(NameInvalid(f"the entry {text!r} cannot be shown: {error.strerror}"))
                listed.append(Listed(foreign_name(text), text, kind, True, number))
        self._kept.keep_all(self._known, met)
        return listed, reasons

    def is_empty(self, backing: Backing) -> bool:
        """Whether nothing but the driver's own entries is left."""
        return all(is_own(text) for text, _kind in backing.entries(self.descriptor))

    def rebind(self, backing: Backing, bindings: tuple[bytes, ...]) -> None:
        """Seal the folder's record to these names."""
        record = self.record._replace(generation=self.record.generation + 1, bindings=bindings)
        descriptor = backing.open_file(self.descriptor, directory.RECORD_NAME, writable=True)
        try:
            backing.write(descriptor, [record.seal(self.site.names.directory_records)], 0)
            # The new name must never survive a power cut that this did not.
            backing.sync_data(descriptor)
        finally:
            backing.close(descriptor)
        self.record = record


def foreign_name(text: str) -> bytes:
    """What a foreign entry is shown as; kept within the length that a name may have."""
    return os.fsencode(text)[: NAME_MAX - len(FOREIGN_SUFFIX)] + FOREIGN_SUFFIX


def read_record(backing: Backing, descriptor: int) -> bytes:
    """The record of an open backing folder; raises DirectoryRecordInvalid when there is none."""
    try:
        record = backing.open_file(descriptor, directory.RECORD_NAME, writable=False)
    except FileNotFoundError:
        raise DirectoryRecordInvalid(
            f"the folder has no {directory.RECORD_NAME}: it is foreign to the store, or the file "
            "was deleted; restore it from a backup of the store"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO) and not isinstance(error, NotAFile):
            raise
        raise DirectoryRecordInvalid(
            f"the folder's {directory.RECORD_NAME} cannot be read ({error.strerror}): something "
            "else was put in its place; restore it from a backup of the store"
        ) from None
    try:
        return backing.read(record, directory.RECORD_SIZE + 1, 0)
    finally:
        backing.close(record)


def create_record(backing: Backing, descriptor: int, record: DirectoryRecord, site: Site) -> None:
    """Give a new backing folder its record, readable for whoever may list the folder."""
    new = backing.create_file(descriptor, directory.RECORD_NAME, 0o644)
    try:
        backing.write(new, [record.seal(site.names.directory_records)], 0)
        # The folder's name must never survive a power cut that its record did not.
        backing.sync_data(new)
    finally:
        backing.close(new)
    backing.sync(descriptor)


def temporary_name() -> str:
    """For an entry that is not to be seen until it is renamed."""
    return TEMPORARY + os.urandom(8).hex()


def is_own(text: str) -> bool:
    """Whether an entry of a backing folder is the driver's, and no name of the mount."""
    return text.startswith(RESERVED) and not text.startswith(LONG_ENTRY)


def _sidecar_of(text: str) -> str:
    """The file that holds the name of a long entry."""
    return LONG_NAME + text.removeprefix(LONG_ENTRY)


def _digest(sidecar: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(sidecar)
    return base32hex.encode(digest.finalize())


def kind_of(status: os.stat_result) -> int:
    """The S_IFMT part of a mode."""
    return stat.S_IFMT(status.st_mode)
