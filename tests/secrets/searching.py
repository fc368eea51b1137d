"""The keys of a store, got by the hierarchy itself, and the search for them in any shape."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsdriver import store as stores
from fsdriver.format import filekeys
from fsdriver.format.header import CLEAR_SIZE, ClearHeader
from keyhierarchy import keystore, wrapping
from keyhierarchy.hierarchy import Hierarchy
from keyhierarchy.roots.service_managed import ServiceKeys
from keyhierarchy.statedir import service_keys_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HALF = 16


def forms(key: bytes) -> Iterator[bytes]:
    """Shapes of each half of a key: bytes, hex, base64 at any place, and what repr writes."""
    for at in range(0, len(key) - HALF + 1, HALF):
        half = key[at : at + HALF]
        yield half
        yield half.hex().encode()
        yield half.hex().upper().encode()
        yield repr(half)[2:-1].encode()
        yield b", ".join(str(byte).encode() for byte in half)
        for shift in range(3):
            # A group of base64 is 3 bytes: what does not hang on the neighbours is left.
            encode = (base64.b64encode, base64.urlsafe_b64encode)
            for one in encode:
                yield one(bytes(shift) + half)[4 * bool(shift) : -4]


def found(keys: dict[str, bytes], haystack: bytes) -> list[str]:
    """Names of the keys of which a half is in the haystack in some shape."""
    return [name for name, key in keys.items() if any(form in haystack for form in forms(key))]


@dataclass
class Keys:
    """Every key on the way from the root to the chunks of some files of a store."""

    by_name: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, key: bytes) -> None:
        assert len(key) >= 2 * HALF and len(set(key)) > 8, f"{name} is no key"
        self.by_name[name] = key


def keys_of(store: Path, state: Path, backing_files: dict[str, Path]) -> Keys:
    """Open the store's keys as a mount does, and keep them."""
    keys = Keys()
    for master in ServiceKeys(service_keys_folder(str(state))).masters():
        keys.add("master key", master.key)
    document = stores.load(str(store))
    control = stores.control_folder(str(store))
    store_id, site_id = bytes.fromhex(document.store_id), bytes.fromhex(document.site_id)
    hierarchy = Hierarchy.open(control, str(state), store_id)
    try:
        lease = hierarchy.lease(site_id)
        keys.add("metadata key", lease.metadata_key)
        _section, site = keystore.load(control, store_id).find_site(site_id)
        for opened in hierarchy._policies._open.values():
            for generation, tik in opened.tiks.items():
                keys.add(f"TIK {generation}", tik)
            for one in site.site_keys:
                key = wrapping.unwrap_site_key(
                    opened.tiks[one.tik_generation],
                    one.wrapped_site_key,
                    policy_id=bytes.fromhex(site.policy_id),
                    tik_generation=one.tik_generation,
                    site_id=site_id,
                    generation=one.generation,
                )
                keys.add(f"site key {one.generation}", key)
        for name, place in backing_files.items():
            with open(place, "rb") as file:
                clear = ClearHeader.parse(file.read(CLEAR_SIZE))
            file_key = lease.unwrap_file_key(
                clear.file_id, clear.site_key_generation, clear.wrapped_file_key
            )
            keys.add(f"file key of {name}", file_key)
            derived = filekeys.derive(file_key, clear.file_id)
            keys.add(f"header key of {name}", derived.header_key)
            keys.add(f"chunk key of {name}", derived.chunk_key)
    finally:
        hierarchy.close()
    return keys


def files_below(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every regular file, the names of all entries, and their attributes."""
    for top in folders:
        for folder, inner, names in os.walk(top):
            for name in names + inner:
                path = os.path.join(folder, name)
                seen = os.fsencode(name)
                if os.path.islink(path):
                    seen += b"\n" + os.fsencode(os.readlink(path))
                    yield path, seen
                    continue
                for attribute in os.listxattr(path):
                    seen += b"\n" + attribute.encode() + b"=" + os.getxattr(path, attribute)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        seen += b"\n" + file.read()
                yield path, seen
