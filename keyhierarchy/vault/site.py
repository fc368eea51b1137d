"""One installation of `ckfs-vault`: its folder, and everything that is loaded from it.

    DIR/installation.json    tenant, domain, client applications (digests of their secrets)
    DIR/master.key           32 random bytes, base64; opens everything sealed below
    DIR/admin.token          bearer of this text may use the administration endpoint
    DIR/tls/                 CA and server certificates (`certificates`)
    DIR/clients/NAME.json    what `init` and `principal add` hand to a client
    DIR/vaults/NAME/         properties, sealed keys, audit log (`store`, `auditlog`)
    DIR/running.json         addresses of the serving process; DIR/lock is held by it

All folders are 0700, all files 0600. One process owns the folder at a time.
"""

import base64
import binascii
import fcntl
import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from keyhierarchy.vault.auditlog import AuditLog
from keyhierarchy.vault.clock import Clock
from keyhierarchy.vault.errors import StateDamaged
from keyhierarchy.vault.files import PRIVATE_FILE, make_private_folder, replace_file
from keyhierarchy.vault.identifiers import AUTHORITY_LABEL, label_in_domain, split_host
from keyhierarchy.vault.keyring import Keyring
from keyhierarchy.vault.records import RECORD_FORMAT, Installation, Principal, VaultProperties
from keyhierarchy.vault.sealing import MASTER_KEY_BYTES, Sealer, derive_key
from keyhierarchy.vault.store import VaultStore
from keyhierarchy.vault.throttling import Throttle
from keyhierarchy.vault.tokens import Tokens

RUNNING = "running.json"
LOCK = "lock"
_INSTALLATION = "installation.json"
_MASTER_KEY = "master.key"
_ADMIN_TOKEN = "admin.token"  # noqa: S105 - the name of a file
_VAULTS = "vaults"
_CLIENTS = "clients"


class InUse(Exception):
    """Another process serves or changes this folder."""


class Client(msgspec.Struct):
    """What a client application needs to sign in; written for it once, 0600."""

    name: str
    tenant_id: str
    client_id: str
    client_secret: str


class Running(msgspec.Struct):
    """Where the serving process answers."""

    pid: int
    port: int
    admin_port: int
    vaults: dict[str, str]
    authority: str


class Site:
    def __init__(self, folder: Path) -> None:
        """Opens an existing installation. StateDamaged if anything in it cannot be trusted."""
        self.folder = folder
        self.installation = _load_installation(folder / _INSTALLATION)
        master_key = _load_master_key(folder / _MASTER_KEY)
        self.admin_token = read_admin_token(folder)
        self.clock = Clock()
        self.tokens = Tokens(derive_key(master_key, "bearer tokens"), self.clock)
        self._records = Sealer(master_key, "key records")
        self._backups = Sealer(master_key, "key backups")
        self.vaults: dict[str, Keyring] = {}
        for path in sorted((folder / _VAULTS).iterdir()):
            self._load_vault(path)
        self.audit = {name: AuditLog(folder / _VAULTS / name) for name in self.vaults}
        self.throttles = {name: Throttle() for name in self.vaults}

    def _load_vault(self, path: Path) -> None:
        store = VaultStore(path, self._records)
        properties = store.load_properties()
        if properties.name != path.name:
            raise StateDamaged(f"{path}: holds the vault {properties.name}")
        self.vaults[path.name] = Keyring(properties, store, self._backups, self.clock)

    def vault_at(self, host: str) -> str | None:
        """The name of the vault that answers at a host name; a port in it is ignored."""
        for name, ring in self.vaults.items():
            domain = self.installation.domain_of(ring.properties.kind)
            if label_in_domain(host, domain) == name:
                return name
        return None

    def is_authority(self, host: str) -> bool:
        bare, _ = split_host(host)
        return bare in ("localhost", "127.0.0.1", "[::1]") or (
            label_in_domain(host, self.installation.domain) == AUTHORITY_LABEL
        )

    def save_installation(self) -> None:
        _save_json(self.folder / _INSTALLATION, self.installation)

    def save_client(self, principal: Principal, secret: str) -> Path:
        path = client_path(self.folder, principal.name)
        tenant = self.installation.tenant_id
        _save_json(path, Client(principal.name, tenant, principal.client_id, secret))
        return path


def create_site(
    folder: Path, vaults: list[VaultProperties], domain: str, hsm_domain: str, tenant_id: str = ""
) -> Site:
    """A new installation in a folder that does not exist or is empty."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose a new folder")
    make_private_folder(folder)
    for part in (_VAULTS, _CLIENTS):
        make_private_folder(folder / part)
    master_key = secrets.token_bytes(MASTER_KEY_BYTES)
    replace_file(folder / _MASTER_KEY, base64.b64encode(master_key) + b"\n")
    replace_file(folder / _ADMIN_TOKEN, secrets.token_urlsafe(32).encode() + b"\n")
    installation = Installation(
        tenant_id=tenant_id or str(uuid.uuid4()), domain=domain, hsm_domain=hsm_domain
    )
    records = Sealer(master_key, "key records")
    for properties in vaults:
        VaultStore(folder / _VAULTS / properties.name, records).create(properties)
    # Last, because a folder without it is not taken for an installation.
    _save_json(folder / _INSTALLATION, installation)
    return Site(folder)


def read_admin_token(folder: Path) -> str:
    return _read(folder / _ADMIN_TOKEN).decode("ascii", "replace").strip()


def client_path(folder: Path, name: str) -> Path:
    return folder / _CLIENTS / f"{name}.json"


def load_client(folder: Path, name: str) -> Client:
    return msgspec.json.decode(_read(client_path(folder, name)), type=Client)


def load_running(folder: Path) -> Running | None:
    """None when no process has left its addresses; the caller finds out whether it still lives."""
    try:
        return msgspec.json.decode((folder / RUNNING).read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save_running(folder: Path, running: Running) -> None:
    _save_json(folder / RUNNING, running)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; InUse when another process has it."""
    if not (folder / _INSTALLATION).exists():
        raise StateDamaged(f"{folder} is no ckfs-vault folder; make one with: ckfs-vault init")
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{folder} is in use by another process") from None
        yield
    finally:
        os.close(descriptor)


def is_served(folder: Path) -> bool:
    """Whether some process holds the folder now; addresses of a killed one may still lie there."""
    try:
        with exclusive(folder):
            return False
    except InUse:
        return True


def _save_json(path: Path, value: msgspec.Struct) -> None:
    replace_file(path, msgspec.json.format(msgspec.json.encode(value)) + b"\n")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StateDamaged(f"{path}: {error.strerror}") from error


def _load_installation(path: Path) -> Installation:
    try:
        installation = msgspec.json.decode(_read(path), type=Installation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateDamaged(f"{path}: {error}") from error
    if installation.format != RECORD_FORMAT:
        raise StateDamaged(f"{path}: format {installation.format} is not known here")
    return installation


def _load_master_key(path: Path) -> bytes:
    try:
        return base64.b64decode(_read(path).strip(), validate=True)
    except binascii.Error as error:
        raise StateDamaged(f"{path}: {error}") from error
