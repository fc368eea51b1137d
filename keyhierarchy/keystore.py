"""The keystore: STORE/.ckfs/keystore.json, every wrapped key of a store that is not a file's own.

Parses strictly, replaces atomically, seals and checks each policy's section with that policy's
tenant intermediate key (TIK). Opens no TIK and trusts nothing before its seal was checked.
The document's form is fixed by HIERARCHY.md section 4.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from keyhierarchy import documents, durable, wrapping
from keyhierarchy.errors import KeystoreInvalid, KeystoreMissing, SiteUnknown
from keyhierarchy.policy import (
    DataEncryptionPolicy,
    Generation,
    HexId,
    PolicyState,
    Timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 2
_FIRST_FORMAT = 1
NAME = "keystore.json"
_LOCK = "keystore.lock"
_LIMIT = 256 << 20  # about 300,000 sites; a longer document is an attack on memory

Workload = Literal["onedrive", "sharepoint", "teams", "exchange", "skype"]
_Wrapped = Annotated[bytes, Meta(min_length=48, max_length=48)]
_Commitment = Annotated[bytes, Meta(min_length=32, max_length=32)]


class SiteKeyGeneration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One generation of a site key, wrapped under one generation of the TIK."""

    generation: Generation
    tik_generation: Generation
    wrapped_site_key: _Wrapped
    commitment: _Commitment


class SiteRecord(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A site and its keys, oldest generation first; the metadata key is under the last one."""

    site_id: HexId
    workload: Workload
    policy_id: HexId
    root_directory_id: HexId
    created: Timestamp
    site_keys: Annotated[tuple[SiteKeyGeneration, ...], Meta(min_length=1, max_length=4096)]
    wrapped_metadata_key: _Wrapped

    def __post_init__(self) -> None:
        """Refuse generations out of order: the last is taken for the current one."""
        numbers = [key.generation for key in self.site_keys]
        if numbers != sorted(set(numbers)):
            raise ValueError("site key generations are not in rising order")

    def is_under(self, tik_generation: int) -> bool:
        """Tell whether all of the site's keys are under that tenant intermediate key."""
        return all(key.tik_generation == tik_generation for key in self.site_keys)


class Mark(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Says that a policy is revoked or that its purge was requested. Not sealed, on purpose.

    It must be possible to close a policy whose keys cannot be opened any more, and a mark can only
    take away: what a forged one does, deleting the keystore does as well.
    """

    state: PolicyState
    since: Timestamp

    def __post_init__(self) -> None:
        """Refuse every state that would open something."""
        if self.state not in {PolicyState.Revoked, PolicyState.PurgeRequested}:
            raise ValueError("a mark can only say that a policy is revoked or about to be purged")


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy with the sites it protects: what one TIK seals.

    `sealed_generation` is the document's generation when this section was last changed, so that
    the anchor can tell an older section.
    """

    sealed_generation: Generation
    policy: DataEncryptionPolicy
    sites: tuple[SiteRecord, ...]
    seal: Annotated[bytes, Meta(max_length=32)] = b""
    mark: Mark | UnsetType = UNSET

    @property
    def state(self) -> PolicyState:
        """The state that counts: the policy's own, unless a mark closes it."""
        return self.mark.state if self.mark else self.policy.state

    def __post_init__(self) -> None:
        """Refuse a site that names another policy than the one it is filed under."""
        if any(site.policy_id != self.policy.id for site in self.sites):
            raise ValueError("a site record is filed under a policy that it does not name")


class Keystore(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole document. `generation` counts up at every write; the newest seal vouches for it."""

    format: int = _FIRST_FORMAT
    lowest_reader: int = _FIRST_FORMAT
    store_id: HexId
    generation: Generation
    sections: Annotated[tuple[Section, ...], Meta(min_length=1, max_length=4096)]

    def __post_init__(self) -> None:
        """Refuse two records for one id: which of them is meant must not depend on the reader."""
        policies = [section.policy.id for section in self.sections]
        sites = [site.site_id for section in self.sections for site in section.sites]
        if len(set(policies)) != len(policies) or len(set(sites)) != len(sites):
            raise ValueError("two records have the same id")
        if self.generation != max(section.sealed_generation for section in self.sections):
            raise ValueError("its generation is not that of its newest section")

    def section(self, policy_id: str) -> Section | None:
        """Find the section of a policy, or None."""
        return next((s for s in self.sections if s.policy.id == policy_id), None)

    def find_site(self, site_id: bytes) -> tuple[Section, SiteRecord]:
        """Find a site and the section it is in; SiteUnknown where there is none."""
        wanted = site_id.hex()
        for section in self.sections:
            for site in section.sites:
                if site.site_id == wanted:
                    return section, site
        raise SiteUnknown(
            f"the keystore of store {self.store_id} has no site {wanted}: the file or folder comes "
            "from another store, or the keystore is older than it; put the newest keystore back",
            site_id=wanted,
        )


def canonical(section: Section) -> bytes:
    """Return what a seal covers: the section with an empty seal and no mark, as RFC 8785 JSON.

    The strings allowed in it are ASCII that JSON does not escape, the numbers integers, so sorted
    keys without white space are all that the RFC asks for.
    """
    return msgspec.json.encode(replace(section, seal=b"", mark=UNSET), order="sorted")


def sealed(section: Section, tik: bytes, *, store_id: bytes) -> Section:
    """Return the section sealed with the current TIK of its policy."""
    return replace(section, seal=_seal(section, tik, store_id))


def check_seal(section: Section, tik: bytes, *, store_id: bytes, place: str) -> None:
    """Raise KeystoreInvalid unless the holder of this TIK wrote exactly this section."""
    if not wrapping.same(section.seal, _seal(section, tik, store_id)):
        raise KeystoreInvalid(
            f"{place}: the seal of policy {section.policy.name} ({section.policy.id}) does not "
            "match: a record was changed, added, dropped or swapped by somebody without the key; "
            "put the keystore back from a backup",
            policy_id=section.policy.id,
            place=place,
        )


def path(control_folder: str) -> str:
    """Return where the keystore of a store is."""
    return os.path.join(control_folder, NAME)


def load(control_folder: str, store_id: bytes) -> Keystore:
    """Read and parse the keystore of this store. Its seals are not checked yet."""
    place = path(control_folder)
    try:
        document = durable.read_document(place, limit=_LIMIT)
    except KeystoreMissing as error:
        raise KeystoreMissing(
            f"{place} does not exist, and without it no file of the store can be opened; "
            "put it back from a backup, or make the store with: ckfs init",
            place=place,
        ) from error
    keystore = parse(document, place)
    if keystore.store_id != store_id.hex():
        raise KeystoreInvalid(
            f"{place} belongs to store {keystore.store_id}, this is store {store_id.hex()}; "
            "put this store's own keystore back",
            place=place,
        )
    return keystore


def parse(document: bytes, place: str) -> Keystore:
    """Parse bytes strictly; the error names the place and the field."""
    return documents.parse(document, Keystore, known_format=FORMAT, place=place)


def pack(keystore: Keystore) -> bytes:
    """Return the bytes of the document."""
    return documents.pack(keystore)


def store(control_folder: str, keystore: Keystore) -> None:
    """Replace the document atomically. The caller holds `exclusive`."""
    needed = FORMAT if any(_is_newer(one) for one in keystore.sections) else _FIRST_FORMAT
    document = pack(replace(keystore, format=needed, lowest_reader=needed))
    # Values are checked when they are parsed: never replace a good keystore by one that is not.
    parse(document, path(control_folder))
    durable.replace_document(path(control_folder), document)


@contextmanager
def exclusive(control_folder: str, *, wait: bool = False) -> Iterator[None]:
    """Be the only one who changes this keystore; KeystoreBusy if another process is."""
    with durable.locked(os.path.join(control_folder, _LOCK), wait=wait):
        yield


def _is_newer(section: Section) -> bool:
    """Tell whether a reader of the first format would not understand this section."""
    policy = section.policy
    return bool(section.mark or policy.operation or policy.retired_keys) or any(
        wrap.slot == "successor" for tik in policy.tik_generations for wrap in tik.wraps
    )


def _seal(section: Section, tik: bytes, store_id: bytes) -> bytes:
    return wrapping.seal_section(
        tik,
        store_id=store_id,
        policy_id=bytes.fromhex(section.policy.id),
        canonical=canonical(section),
    )
