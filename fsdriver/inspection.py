"""`ckfs info`: what can be said of a store or a file without any key, and is not authenticated."""

import os
import stat
from contextlib import suppress
from typing import Any

from fsdriver import control, refusals, store
from fsdriver.errors import Damaged, NotAStore, NotPermitted
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.format.geometry import HEADER_SIZE, Geometry
from fsdriver.format.header import ClearHeader

_NOTE = "read without keys: nothing of this is authenticated"


def inspect(path: str) -> dict[str, Any]:
    """Facts in the order in which they are to be shown; raises StoreError or Damaged."""
    if os.path.isdir(path):
        with suppress(FileNotFoundError):
            os.lstat(os.path.join(path, CONTROL_FOLDER))
            return _store(path)
        raise NotAStore(f"{path} is a folder and no store; `ckfs info` takes a store or a file")
    backing = _backing_file(path)
    try:
        with refusals.storage(backing):
            descriptor = os.open(backing, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        raise NotPermitted(f"{backing} cannot be read: permission denied") from None
    except OSError as error:
        raise NotAStore(f"{backing} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAStore(f"{backing} is no regular file, so it has no header")
        with refusals.storage(backing):
            raw = os.pread(descriptor, HEADER_SIZE, 0)
    finally:
        os.close(descriptor)
    clear = ClearHeader.parse(raw)
    return {
        "backing_file": backing,
        "note": _NOTE,
        "format_version": clear.format_version,
        "lowest_reader": clear.lowest_reader,
        "file_id": clear.file_id.hex(),
        "site_id": clear.site_id.hex(),
        "site_key_generation": clear.site_key_generation,
        "key_commitment": clear.key_commitment.hex(),
        "chunk_size": clear.chunk_size,
        "backing_bytes": status.st_size,
        **_sizes(clear, status.st_size),
    }


def _sizes(clear: ClearHeader, length: int) -> dict[str, Any]:
    geometry = Geometry(clear.chunk_size)
    try:
        size = geometry.plaintext_size(length)
    except Damaged as error:
        return {"damage": str(error)}
    return {"plaintext_bytes": size, "chunks": geometry.chunk_count(size)}


def _backing_file(path: str) -> str:
    """A file of a mount says itself where its ciphertext is."""
    try:
        return os.fsdecode(os.getxattr(path, control.BACKING))
    except OSError:
        return path


def _store(path: str) -> dict[str, Any]:
    document = store.load(path)
    return {
        "store": os.path.abspath(path),
        "note": _NOTE,
        "format": document.format,
        "lowest_reader": document.lowest_reader,
        "store_id": document.store_id,
        "root_site_id": document.site_id,
        "names": document.names,
        "chunk_size": document.chunk_size,
        "created": document.created,
    }
