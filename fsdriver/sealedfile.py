"""One backing file and its header: create, open, seal, recover; its bindings and extent map.

Says nothing of reading or writing content; openfile.py does. One instance stands for one inode,
whatever the number of its links and handles.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from hmac import compare_digest
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from fsdriver import extentpages
from fsdriver.backing import Backing
from fsdriver.errors import (
    ChunkInvalid,
    HeaderInvalid,
    KeyRejected,
    NameBindingMismatch,
    SizeMismatch,
)
from fsdriver.format import filekeys, header
from fsdriver.format.chunk import ChunkCipher, ChunkSet
from fsdriver.format.extents import ExtentMap
from fsdriver.format.filekeys import FileKeys
from fsdriver.format.geometry import HEADER_SIZE, NONCE_SIZE, Geometry
from fsdriver.format.header import ClearHeader, SealedState
from fsdriver.sessions import Session


class Lease(Protocol):
    """What the data path needs of a site's key: a flag, and the wraps of file keys."""

    site_id: bytes
    root_directory_id: bytes

    @property
    def metadata_key(self) -> bytes:
        """The key of names and records; raises why the lease ended, once it has."""
        ...

    generation: int
    valid: bool
    deadline: float

    def wrap_file_key(
        self, file_id: bytes, file_key: bytes, generation: int | None = None
    ) -> bytes:
        """48 opaque bytes under the site key of `generation`."""
        ...

    def unwrap_file_key(self, file_id: bytes, generation: int, wrapped: bytes) -> bytes:
        """The file key; raises an error of the key hierarchy."""
        ...

    def require_valid(self) -> None:
        """Raises why the lease ended, once `valid` is false."""
        ...


class SealedFile:
    """An open backing file whose header has been verified."""

    __slots__ = (
        "_clear",
        "_header_cipher",
        "_keys",
        "_sealed_chunks",
        "backing",
        "chunk_set",
        "cipher",
        "descriptor",
        "extents",
        "file_id",
        "geometry",
        "lease",
        "locked",
        "session",
        "state",
        "writable",
    )

    def __init__(
        self,
        backing: Backing,
        descriptor: int,
        clear: ClearHeader,
        keys: FileKeys,
        lease: Lease,
        session: Session,
        *,
        writable: bool,
    ) -> None:
        self.backing = backing
        self.descriptor = descriptor
        self.writable = writable
        self.lease = lease
        self.session = session
        self.file_id = clear.file_id
        self.geometry = Geometry(clear.chunk_size)
        self.state = SealedState()
        self.extents: ExtentMap | None = None
        """Chunks present in a sparse file; None for a dense one."""
        self._sealed_chunks = 0
        """How many chunks the header in the store says that there are."""
        self._clear = clear.pack()
        self.locked = False
        """Whether the keys were dropped because the lease ended."""
        self._take_keys(keys)

    def _take_keys(self, keys: FileKeys) -> None:
        self._header_cipher = AESSIV(keys.seal_key)
        self._keys = keys

    def lock(self) -> None:
        """Seal what is unsealed while there are keys, then drop them."""
        if self.locked:
            return
        try:
            if self.state.dirty and self.writable:
                self.seal()
        finally:
            self.locked = True
            for secret in ("_header_cipher", "_keys", "cipher", "chunk_set"):
                if hasattr(self, secret):
                    delattr(self, secret)

    def unlock(self) -> None:
        """The lease is valid again: the same keys from the same header."""
        if self.locked:
            clear = ClearHeader.parse(self._clear)
            self._take_keys(_open_keys(clear, self.lease))
            self.prepare_content()
            self.locked = False

    def prepare_content(self) -> None:
        """Set up the ciphers of content, which an open for a rename or a stat never needs."""
        self.cipher = ChunkCipher(self._keys.chunk_key, self.file_id)
        self.chunk_set = ChunkSet(self._keys.set_key)

    @classmethod
    def create(
        cls,
        backing: Backing,
        descriptor: int,
        lease: Lease,
        session: Session,
        chunk_size: int,
        bindings: tuple[bytes, ...],
    ) -> "SealedFile":
        """Give a new, empty backing file its key and its header."""
        file_id = os.urandom(16)
        file_key = os.urandom(filekeys.FILE_KEY_SIZE)
        keys = filekeys.derive(file_key, file_id)
        # Read once: a renewal on another thread may bring the next generation in between.
        generation = lease.generation
        clear = ClearHeader(
            chunk_size,
            generation,
            file_id,
            lease.site_id,
            lease.wrap_file_key(file_id, file_key, generation),
            keys.commitment,
        )
        sealed = cls(backing, descriptor, clear, keys, lease, session, writable=True)
        sealed.state.bindings = bindings
        backing.write(descriptor, [sealed.next_header()], 0)
        return sealed

    @classmethod
    def open(
        cls, backing: Backing, descriptor: int, lease: Lease, session: Session, *, writable: bool
    ) -> "SealedFile":
        """Read and verify the header; raises a Damaged error, KeyRejected, or FormatUnsupported.

        A file that a driver left behind when it stopped has `state.dirty` set: call `recover`.
        """
        raw = backing.read(descriptor, HEADER_SIZE, 0)
        clear = ClearHeader.parse(raw)
        if clear.site_id != lease.site_id:
            raise KeyRejected(
                f"the file belongs to site {clear.site_id.hex()}, its folder to "
                f"{lease.site_id.hex()}: it was moved between sites in the store"
            )
        keys = _open_keys(clear, lease)
        sealed = cls(backing, descriptor, clear, keys, lease, session, writable=writable)
        sealed.state = state = header.unseal(raw, sealed._header_cipher)
        length = backing.stat_open(descriptor).st_size
        expected = sealed.geometry.ciphertext_size(state.size)
        sealed._sealed_chunks = sealed.geometry.chunk_count(state.size)
        if not state.dirty and length == expected:
            extentpages.load(sealed)
        elif session.may_recover(state.session, clear.file_id):
            state.dirty = True
        elif state.dirty:
            raise HeaderInvalid(
                "the file was left unsealed by a driver that this host does not know to have "
                "stopped: an old header was put back in the store, or the store was last written "
                "on another host; mount it there, or accept such files with -o recover"
            )
        else:
            raise SizeMismatch(
                f"the backing file has {length} bytes and was sealed with {expected}: it was "
                f"{'cut' if length < expected else 'extended'} in the store"
            )
        return sealed

    def check_binding(self, binding: bytes) -> None:
        """Raises NameBindingMismatch unless the file was sealed under this name."""
        if binding not in self.state.bindings and not self.state.unbound:
            raise NameBindingMismatch(
                "the file was sealed under another name: it was moved, swapped or copied in the "
                "store"
            )

    def rebind(self, bindings: Iterable[bytes]) -> None:
        """Seal the file to these names; to none in particular when there are too many."""
        unique = tuple(dict.fromkeys(bindings))
        unbound = len(unique) > header.BINDINGS
        self.state.bindings = () if unbound else unique
        self.state.unbound = unbound
        if self.state.dirty:
            # Its size is new and its extents are those of before, so that a header of both would
            # name holes as chunks, and recover would take them for damage.
            self.seal()
        else:
            self.write_header()

    def next_header(self) -> bytes:
        """The header of the present state, one generation on."""
        self.state.generation += 1
        self.state.session = self.session.id
        return header.seal(self._clear, self.state, self._header_cipher)

    def write_header(self) -> None:
        """Write the present state; the file's times stay as they were."""
        status = self.backing.stat_open(self.descriptor)
        self.backing.write(self.descriptor, [self.next_header()], 0)
        self.note_written()
        with suppress(PermissionError):  # of a file that somebody else owns
            self.backing.change_open_times(self.descriptor, status.st_atime_ns, status.st_mtime_ns)

    def note_written(self) -> None:
        """The header of the present state is in the store."""
        self._sealed_chunks = self.geometry.chunk_count(self.state.size)

    def prepare_hole(self) -> None:
        """Before chunks that the header in the store names become a hole: seal that they went.

        So what an unsealed header names is there, and what is not was taken away by somebody.
        """
        if self._sealed_chunks > self.geometry.chunk_count(self.state.size):
            self.mark_dirty()
            self.seal()
            self.mark_dirty()

    def mark_dirty(self) -> None:
        """Before content changes in place: from here on a crash leads to `recover`."""
        if not self.state.dirty:
            self.state.content_digest = None
            self._write_header_as(dirty=True)

    def seal(self) -> None:
        """Make size, chunk set and extents authentic again after writes."""
        if self.state.dirty:
            extentpages.store(self)
            self._write_header_as(dirty=False)

    def _write_header_as(self, *, dirty: bool) -> None:
        """Only what the store took is true: after a failure the next call tries again."""
        self.state.dirty = dirty
        try:
            self.write_header()
        except BaseException:
            self.state.dirty = not dirty
            raise

    def recover(self) -> int:
        """After a driver stopped in the middle of writes: take what lies there as the content.

        Chunks still authenticate one by one when they are read; which ones are present, and the
        size, are taken on trust once. Returns the recovered size and leaves the state sealed if
        the file is writable.
        """
        geometry, backing, descriptor = self.geometry, self.backing, self.descriptor
        length = backing.stat_open(descriptor).st_size
        try:
            size = geometry.plaintext_size(length)
        except SizeMismatch:
            # The last record was cut inside its overhead, so nobody was told that it is there.
            size = (length - HEADER_SIZE) // geometry.stride * geometry.chunk_size
        self.prepare_content()
        nonces = {
            index: nonce
            for index in self._written(geometry.chunk_count(size))
            if (nonce := self.nonce_of(index)) != bytes(NONCE_SIZE)
        }
        sparse = self.state.extents is not None or bool(self.state.extent_pages)
        if sparse or len(nonces) < geometry.chunk_count(size):
            # A hole may hold a page of a map, also one that was sealed before the last.
            for index in list(nonces):
                if extentpages.is_page(self, index):
                    del nonces[index]
        # A chunk that the header names is there, or is damage; it is never a hole (see
        # prepare_hole). At the end of the file it may have been cut off on purpose.
        for first, end in self._named().runs():
            for index in range(first, min(end, geometry.chunk_count(size))):
                nonces.setdefault(index, bytes(NONCE_SIZE))
        self.extents = ExtentMap()
        digest = 0
        for index, nonce in sorted(nonces.items()):
            self.extents.add(index, index + 1)
            digest ^= self.chunk_set.digest(index, nonce)
        self.state = replace(self.state, size=size, chunk_set=digest)
        if self.writable:
            if length != geometry.ciphertext_size(size):
                backing.truncate(descriptor, geometry.ciphertext_size(size))
            self.seal()
        elif self.extents.is_dense(geometry.chunk_count(size)):
            self.extents = None
        return size

    def _named(self) -> ExtentMap:
        """The chunks that the header in the store says are there."""
        try:
            extentpages.load(self)
        except (HeaderInvalid, ChunkInvalid):
            return ExtentMap()  # its pages lay in holes that have been written since
        return self.extents or ExtentMap.full(self._sealed_chunks)

    def _written(self, chunks: int) -> Iterator[int]:
        """Chunk indexes below `chunks` that the store's filesystem does not hold as a hole."""
        geometry = self.geometry
        following = 0
        for start, end in self.backing.data_runs(self.descriptor, HEADER_SIZE):
            first = max(following, (start - HEADER_SIZE) // geometry.stride)
            following = max(first, min(chunks, -(-(end - HEADER_SIZE) // geometry.stride)))
            yield from range(first, following)

    def nonce_of(self, chunk_index: int) -> bytes:
        """The nonce of a record as it lies in the store, not verified."""
        offset = self.geometry.record_offset(chunk_index)
        return self.backing.read(self.descriptor, NONCE_SIZE, offset)


def _open_keys(clear: ClearHeader, lease: Lease) -> FileKeys:
    """The keys that a header wraps; raises HeaderInvalid when it does not commit to them."""
    file_key = lease.unwrap_file_key(
        clear.file_id, clear.site_key_generation, clear.wrapped_file_key
    )
    keys = filekeys.derive(file_key, clear.file_id)
    if not compare_digest(keys.commitment, clear.key_commitment):
        raise HeaderInvalid(
            "the header does not commit to the key that it wraps: it was forged or mixed up"
        )
    return keys
