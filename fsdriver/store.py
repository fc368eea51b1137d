"""The store document `.ckfs/store.json`: what a store is, and the making of a new one.

It says the format, the store's id, how names are written and the chunk size. Whoever owns the
store can edit it, so it carries a MAC under a key of the root folder's site, which is checked at
mount; before that its fields are only believed enough to find that key (FORMAT.md section 1).
"""

import errno
import os
import shutil
from hmac import compare_digest
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fsdriver import refusals
from fsdriver.backing import Backing
from fsdriver.contentdb import FILE_NAME, ContentDatabase
from fsdriver.errors import (
    NotAStore,
    NotPermitted,
    StoreDamaged,
    StoreError,
    StoreTooNew,
    WrongArguments,
)
from fsdriver.folder import CONTROL_FOLDER, create_record
from fsdriver.format import directory
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.geometry import CHUNK_SIZES
from fsdriver.format.header import FORMAT_VERSION, READER_VERSION
from fsdriver.sites import Sites
from keyhierarchy import statedir
from keyhierarchy.hierarchy import Hierarchy, create_store_keys

DOCUMENT: Final = "store.json"
_ID_SIZE: Final = 16
DEFAULT_CHUNK_SIZE: Final = 65536


class FolderTaken(StoreError):
    """A new store needs a folder of its own."""

    exit_code = 25


class StoreDocument(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The fields of store.json, in the order in which they are authenticated."""

    format: int
    lowest_reader: int
    store_id: str  # 32 hex digits
    site_id: str  # 32 hex digits, of the root folder
    names: Literal["encrypted", "plaintext"]
    chunk_size: int
    created: str  # RFC 3339
    mac: str  # 64 hex digits

    def expected_mac(self, metadata_key: bytes) -> str:
        """HMAC-SHA-256 of every field but the MAC itself."""
        key = HKDFExpand(hashes.SHA256(), 32, b"ckfs 1 store document").derive(metadata_key)
        mac = hmac.HMAC(key, hashes.SHA256())
        mac.update(msgspec.json.encode(msgspec.structs.replace(self, mac="")))
        return mac.finalize().hex()

    def check(self, metadata_key: bytes) -> None:
        """Raises StoreDamaged unless the document is the one that was made with the store."""
        if not compare_digest(self.mac, self.expected_mac(metadata_key)):
            raise StoreDamaged(
                f"{CONTROL_FOLDER}/{DOCUMENT} was changed since the store was made; restore it "
                "from a backup of the store"
            )


def control_folder(store: str) -> str:
    """Where the store keeps what is not a file of the mount."""
    return os.path.join(store, CONTROL_FOLDER)


def load(store: str) -> StoreDocument:
    """Raises NotAStore, StoreTooNew, StoreDamaged or StorageFailed; what it says is not checked."""
    place = os.path.join(control_folder(store), DOCUMENT)
    if os.path.islink(control_folder(store)):
        raise StoreDamaged(f"{control_folder(store)} is a symlink, which no ckfs makes")
    try:
        with refusals.storage(place):
            raw = _read(place)
    except (FileNotFoundError, NotADirectoryError):
        raise NotAStore(
            f"{store} is no ckfs store: it has no {CONTROL_FOLDER}/{DOCUMENT}; make one with "
            f"`ckfs init {store}`"
        ) from None
    except PermissionError:
        raise NotPermitted(
            f"{place} may not be read by this account (permission denied); run as the store's owner"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreDamaged(f"{place} is a symlink, which no ckfs makes") from None
        raise NotAStore(f"{place} cannot be read: {error.strerror}") from None
    try:
        head = msgspec.json.decode(raw, type=_Head)
        if head.lowest_reader > READER_VERSION:
            raise StoreTooNew(
                f"{store} wants a reader of format {head.lowest_reader}, this ckfs reads up to "
                f"{READER_VERSION}: use a newer ckfs"
            )
        document = msgspec.json.decode(raw, type=StoreDocument)
        ids = [bytes.fromhex(text) for text in (document.store_id, document.site_id)]
        if document.chunk_size not in CHUNK_SIZES or {len(one) for one in ids} != {_ID_SIZE}:
            raise ValueError("chunk size or store id is not one that ckfs writes")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreDamaged(
            f"{place} is damaged ({error}); restore it from a backup of the store"
        ) from None
    return document


def _read(place: str) -> bytes:
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(1 << 16)


class _Head(msgspec.Struct):
    lowest_reader: int


def create(
    store: str,
    state_dir: str,
    *,
    plaintext_names: bool = False,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    created: str,
) -> StoreDocument:
    """Make an empty folder a store. Raises StoreError when it is not empty, or cannot be made.

    The document is written last: a store that was not made to the end is no store.
    """
    if chunk_size not in CHUNK_SIZES:
        raise WrongArguments(
            f"{chunk_size} is no chunk size; take a power of two from 4096 to 1048576"
        )
    control = control_folder(store)
    is_new = not os.path.lexists(store)
    try:
        with refusals.storage(store):
            os.makedirs(store, mode=0o700, exist_ok=True)
            if os.path.lexists(os.path.join(control, DOCUMENT)):
                raise FolderTaken(f"{store} is a store already; `ckfs info {store}` says which")
            if os.listdir(store):
                raise FolderTaken(f"{store} is not empty; give `ckfs init` a new or empty folder")
            os.mkdir(control, 0o700)
    except PermissionError:
        raise NotPermitted(f"{store} cannot be made a store: permission denied") from None
    except OSError as error:
        raise FolderTaken(f"{store} cannot be made a store: {error.strerror}") from None
    store_id, root_id = os.urandom(_ID_SIZE), os.urandom(_ID_SIZE)
    try:
        site_id = create_store_keys(control, state_dir, store_id, root_id)
    except BaseException:
        # Nothing can have been encrypted yet, and the next `ckfs init` wants an empty folder.
        shutil.rmtree(store if is_new else control)
        raise
    hierarchy = Hierarchy.open(control, state_dir, store_id)
    try:
        site = Sites(hierarchy)(site_id)
        document = StoreDocument(
            format=FORMAT_VERSION,
            lowest_reader=READER_VERSION,
            store_id=store_id.hex(),
            site_id=site_id.hex(),
            names="plaintext" if plaintext_names else "encrypted",
            chunk_size=chunk_size,
            created=created,
            mac="",
        )
        mac = document.expected_mac(hierarchy.lease(site_id).metadata_key)
        document = msgspec.structs.replace(document, mac=mac)
        backing = Backing()
        root = backing.open_root(store)
        try:
            record = DirectoryRecord(root_id, site_id, 1, (directory.ROOT_BINDING,))
            create_record(backing, root, record, site)
            # Before anything is in the store: what is not in here was never put there.
            known = os.path.join(statedir.store_folder(state_dir, store_id), FILE_NAME)
            ContentDatabase.open(known, store_id, complete_if_new=True).close()
            _write_document(backing, root, document)
        finally:
            backing.close(root)
    finally:
        hierarchy.close()
    return document


def _write_document(backing: Backing, root: int, document: StoreDocument) -> None:
    control = backing.open_directory(root, CONTROL_FOLDER)
    try:
        temporary = DOCUMENT + ".new"
        descriptor = backing.create_file(control, temporary, 0o644)
        try:
            text = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
            backing.write(descriptor, [text], 0)
            backing.sync(descriptor)
        finally:
            backing.close(descriptor)
        backing.rename(control, temporary, control, DOCUMENT)
        backing.sync(control)
        backing.sync(root)
    finally:
        backing.close(control)
