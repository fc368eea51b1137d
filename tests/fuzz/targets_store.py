"""Parsers of what lies in a store: headers, maps, names, records, documents; and mount options."""

from __future__ import annotations

import hashlib
import os

from fsdriver import mountoptions, mountpoints
from fsdriver import store as stores
from fsdriver.backing import Backing
from fsdriver.errors import (
    DirectoryRecordInvalid,
    FormatUnsupported,
    HeaderInvalid,
    NameInvalid,
    StoreError,
    WrongArguments,
)
from fsdriver.folder import LONG_ENTRY, LONG_NAME
from fsdriver.format import base32hex, directory, filekeys, header, names
from fsdriver.format.extents import ExtentMap
from fsdriver.format.header import (
    CLEAR_SIZE,
    SEAL_NONCE_SIZE,
    SEALED_SIZE,
    ClearHeader,
    SealedState,
)
from fsdriver.sessionbook import SessionBook
from fsdriver.storelock import StoreLock
from keyhierarchy import storeid
from keyhierarchy.errors import KeyHierarchyError
from tests.fuzz import world
from tests.fuzz.engine import Parser

OWNER = bytes(range(16))


def text_of(data: bytes) -> str:
    """As the system hands names to Python."""
    return os.fsdecode(data)


def clear_header(data: bytes):
    return ClearHeader.parse(data), data[CLEAR_SIZE:]


def sealed_header(data: bytes):
    """The plaintext of a sealed part that is authentic and may be anything: one form for each."""
    plaintext = data[:SEALED_SIZE].ljust(SEALED_SIZE, b"\0")
    state = SealedState.parse(plaintext)
    assert state.pack() == plaintext
    return state


def whole_header(data: bytes):
    """As an open does: key, commitment, seal; nothing is believed before."""
    clear = ClearHeader.parse(data)
    file_key = world.lease().unwrap_file_key(
        clear.file_id, clear.site_key_generation, clear.wrapped_file_key
    )
    cipher = header.AESGCM(filekeys.derive(file_key, clear.file_id).header_key)
    return clear, header.unseal(data, cipher), cipher, data[CLEAR_SIZE:][:SEAL_NONCE_SIZE]


def extent_map(data: bytes):
    count = int.from_bytes(data[:8]) % (1 << 62)
    return data[:8], ExtentMap.parse(data[8:], count)


def decoded(data: bytes):
    return base32hex.decode(data.decode("utf-8"))


def name(data: bytes):
    return world.names().decrypt_name(world.root_id(), text_of(data))


def sealed_name(data: bytes):
    """A name that is authentic and may be anything: as another version could write it."""
    cipher = world.names()
    text = base32hex.encode(cipher._names.encrypt(data, [OWNER]))
    return cipher.decrypt_name(OWNER, text)[0]


def sidecar(data: bytes):
    digest = base32hex.encode(hashlib.sha256(data).digest())
    place = world.long_folder().descriptor
    descriptor = os.open(
        LONG_NAME + digest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=place
    )
    try:
        os.write(descriptor, data)
        found, _known = world.long_folder().name_of(Backing(), LONG_ENTRY + digest)
    finally:
        os.close(descriptor)
        os.unlink(LONG_NAME + digest, dir_fd=place)
    return found


def packed_sidecar(found: bytes) -> bytes:
    return world.long_folder().backing_name(found).sidecar


def symlink(data: bytes):
    return world.names().decrypt_target(text_of(data))


def packed_symlink(value) -> bytes:
    return world.names().encrypt_target(*value).encode()


def sealed_symlink(data: bytes):
    """The plaintext of a symlink that is authentic and may be anything."""
    cipher = world.names()
    version = names._SYMLINK_VERSION
    text = names._base64url(version + cipher._symlinks.encrypt(data or b"\0", [version]))
    found = cipher.decrypt_target(text)
    assert cipher.encrypt_target(*found) == text
    return found


def xattr_name(data: bytes):
    return world.names().decrypt_xattr_name(OWNER, text_of(data))


def xattr_value(data: bytes):
    return world.names().decrypt_xattr_value(OWNER, b"user.name", data)


def sealed_xattr_value(data: bytes):
    cipher = world.names()
    sealed = cipher._xattrs.encrypt(data or b"\0", [b"value", OWNER, b"user.name", OWNER])
    return cipher.decrypt_xattr_value(OWNER, b"user.name", OWNER + sealed)


def directory_record(data: bytes):
    return directory.unseal(data, world.names().directory_records)


def sealed_directory_record(data: bytes):
    """The plaintext of a record that is authentic and may be anything."""
    clear = (world.golden()[0] / directory.RECORD_NAME).read_bytes()[: directory._CLEAR.size]
    plaintext = data[: directory._SEALED.size].ljust(directory._SEALED.size, b"\0")
    cipher = world.names().directory_records
    raw = clear + cipher.encrypt(plaintext, [clear])
    record = directory.unseal(raw, cipher)
    assert record.seal(cipher) == raw
    return record


def store_document(data: bytes):
    world.write("store/.ckfs/store.json", data)
    document = stores.load(str(world.folder() / "store"))
    document.expected_mac(bytes(32))
    return document


def packed_store_document(document) -> bytes:
    return stores.msgspec.json.encode(document)


def store_id(data: bytes):
    world.write("store/.ckfs/store.json", data)
    return storeid.find_store(str(world.folder() / "store"))


def sessions(data: bytes):
    world.write("host/sessions.json", data)
    known = SessionBook(str(world.folder() / "host"))._load()
    return known.running, known.unended


def lock_note(data: bytes):
    """What stands there of the driver that holds a store; only ever said, never believed."""
    lock = StoreLock.__new__(StoreLock)
    lock._note = str(world.write("host/note", data))
    return lock._holder()


def mount_options(data: bytes):
    return mountoptions.parse(data.decode("utf-8", "surrogateescape").split("\0"))


def mount_table(data: bytes):
    return mountpoints._plain(text_of(data))


PARSERS = [
    Parser(
        "header-clear",
        clear_header,
        (HeaderInvalid, FormatUnsupported),
        lambda value: value[0].pack() + value[1],
    ),
    Parser("header-sealed", sealed_header, (HeaderInvalid,)),
    Parser(
        "header",
        whole_header,
        (HeaderInvalid, FormatUnsupported, KeyHierarchyError),
        lambda value: header.seal(value[0].pack(), *value[1:3], nonce=value[3]),
    ),
    Parser("extent-map", extent_map, (HeaderInvalid,), lambda value: value[0] + value[1].pack()),
    Parser("base32hex", decoded, (ValueError,), lambda value: base32hex.encode(value).encode()),
    Parser(
        "name",
        name,
        (NameInvalid,),
        lambda value: world.names().encrypt_name(world.root_id(), value[0]).text.encode(),
    ),
    Parser("name-sealed", sealed_name, (NameInvalid,), lambda value: value),
    Parser("sidecar", sidecar, (NameInvalid, OSError), packed_sidecar),
    Parser("symlink", symlink, (NameInvalid,), packed_symlink),
    Parser("symlink-sealed", sealed_symlink, (NameInvalid,)),
    Parser(
        "xattr-name",
        xattr_name,
        (NameInvalid,),
        lambda value: world.names().encrypt_xattr_name(OWNER, value).encode(),
        canonical=False,
    ),
    Parser("xattr-value", xattr_value, (NameInvalid,)),
    Parser("xattr-value-sealed", sealed_xattr_value, (NameInvalid,)),
    Parser(
        "directory-record",
        directory_record,
        (DirectoryRecordInvalid, FormatUnsupported),
        lambda value: value.seal(world.names().directory_records),
    ),
    Parser("directory-record-sealed", sealed_directory_record, (DirectoryRecordInvalid,)),
    Parser("store-json", store_document, (StoreError,), packed_store_document, canonical=False),
    Parser("store-id", store_id, (KeyHierarchyError,)),
    Parser("sessions-json", sessions, (StoreError, KeyHierarchyError)),
    Parser("lock-note", lock_note, ()),
    Parser("mount-options", mount_options, (WrongArguments,)),
    Parser("mount-table", mount_table, ()),
]
