"""The real things that some parsers need around them: the frozen store with its keys, a vault.

Made once in a folder in memory, when the first parser asks.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fsdriver import store as stores
from fsdriver.backing import Backing
from fsdriver.folder import Folder, Site, read_record
from fsdriver.format import directory
from keyhierarchy.hierarchy import Hierarchy
from keyhierarchy.roots.availability import AvailabilityStore
from keyhierarchy.roots.service_managed import ServiceKeys
from keyhierarchy.statedir import service_keys_folder
from keyhierarchy.vault.records import KeyVersion, VaultProperties
from keyhierarchy.vault.site import create_site

if TYPE_CHECKING:
    from keyhierarchy.lease import SiteLease
    from keyhierarchy.vault.keyring import Keyring
    from keyhierarchy.vault.site import Site as VaultSite

FROZEN = Path(__file__).parent / "frozen"
GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
MEMORY = "/dev/shm"  # noqa: S108 the folder made in it is of a random name
POLICY = "5a" * 16
AVAILABILITY = "e1aba955ed61314a99aba9eeffe56426"
VERSIONS = {"rsa": "1" * 32, "ec": "2" * 32, "oct": "3" * 32}


@cache
def folder() -> Path:
    """Gone when the process ends."""
    made = Path(
        tempfile.mkdtemp(prefix="ckfs-fuzz-", dir=MEMORY if os.path.isdir(MEMORY) else None)
    )
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def write(name: str, data: bytes) -> Path:
    """A private file of the world with these bytes."""
    place = folder() / name
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    return place


@cache
def golden() -> tuple[Path, Path]:
    """Copies of the frozen store and of the state that opens it."""
    store, state = folder() / "golden" / "store", folder() / "golden" / "state"
    shutil.copytree(GOLDEN / "store", store, symlinks=True)
    shutil.copytree(GOLDEN / "state", state)
    _make_private(state)
    return store, state


def _make_private(top: Path) -> None:
    """Git keeps no modes."""
    for place, _folders, files in os.walk(top):
        Path(place).chmod(0o700)
        for name in files:
            Path(place, name).chmod(0o600)


@cache
def lease() -> SiteLease:
    """On the frozen store's root site."""
    store, state = golden()
    document = stores.load(str(store))
    control = stores.control_folder(str(store))
    hierarchy = Hierarchy.open(control, str(state), bytes.fromhex(document.store_id))
    return hierarchy.lease(bytes.fromhex(document.site_id))


@cache
def names():
    """The frozen store's cipher of names."""
    return Site(lease()).names


@cache
def root_id() -> bytes:
    """Of the frozen store's root folder."""
    raw = (golden()[0] / directory.RECORD_NAME).read_bytes()
    return directory.unseal(raw, names().directory_records).directory_id


@cache
def long_folder() -> Folder:
    """A folder with the root's id, into which sidecars are put."""
    backing, place = Backing(), folder() / "long"
    place.mkdir()
    shutil.copy(golden()[0] / directory.RECORD_NAME, place)
    descriptor = backing.open_root(str(place))
    record = directory.unseal(read_record(backing, descriptor), names().directory_records)
    return Folder(descriptor, Site(lease()), record, plaintext_names=False)


@cache
def availability() -> AvailabilityStore:
    """A frozen one: its keys protect nothing."""
    place = folder() / "availability"
    shutil.copytree(FROZEN / "availability", place)
    _make_private(place)
    return AvailabilityStore(str(place))


@cache
def master_keys() -> ServiceKeys:
    return ServiceKeys(service_keys_folder(str(golden()[1])))


@cache
def site() -> VaultSite:
    """An installation with one Managed HSM, which knows every operation."""
    return create_site(
        folder() / "vaults",
        [VaultProperties(name="fuzz", subscription="0" * 36, kind="hsm")],
        "vault.test",
        "managedhsm.test",
    )


@cache
def ring() -> Keyring:
    """Its keys: one of each kind."""
    made = site().vaults["fuzz"]
    for name, secret in vault_secrets().items():
        operations = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
        kty = {"rsa": "RSA-HSM", "ec": "EC-HSM", "oct": "oct-HSM"}[name]
        version = KeyVersion(VERSIONS[name], kty, secret, operations, 0, 0)
        made.add_version(name, version)
    return made


@cache
def vault_secrets() -> dict[str, bytes]:
    """Frozen, too."""
    made = {name: (FROZEN / f"{name}.der").read_bytes() for name in ("rsa", "ec")}
    return {**made, "oct": bytes(range(32))}
