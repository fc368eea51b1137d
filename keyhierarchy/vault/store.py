"""The state folder of one vault: one sealed file for each key, and the vault's properties.

A file is a magic line followed by a sealed `KeyRecord`; the seal binds vault and key name, so files
cannot be exchanged. Everything is loaded at start and written through; the rules are in `keyring`.
Putting back an older copy of the whole folder is not noticed.
"""

from pathlib import Path

import msgspec

from keyhierarchy.vault.errors import StateDamaged
from keyhierarchy.vault.files import make_private_folder, remove_file, replace_file
from keyhierarchy.vault.records import RECORD_FORMAT, KeyRecord, VaultProperties
from keyhierarchy.vault.sealing import Sealer

_MAGIC = b"ckfs-vault key 1\n"
_SUFFIX = ".key"
_PROPERTIES = "vault.json"


class VaultStore:
    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self.folder = folder
        self._keys = folder / "keys"
        self._sealer = sealer

    def create(self, properties: VaultProperties) -> None:
        make_private_folder(self.folder)
        make_private_folder(self._keys)
        self.save_properties(properties)

    def save_properties(self, properties: VaultProperties) -> None:
        text = msgspec.json.format(msgspec.json.encode(properties))
        replace_file(self.folder / _PROPERTIES, text + b"\n")

    def load_properties(self) -> VaultProperties:
        path = self.folder / _PROPERTIES
        try:
            properties = msgspec.json.decode(path.read_bytes(), type=VaultProperties)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateDamaged(f"{path}: {error}") from error
        if properties.format != RECORD_FORMAT:
            raise StateDamaged(f"{path}: format {properties.format} is not known here")
        return properties

    def save(self, record: KeyRecord) -> None:
        replace_file(self._path(record.name), self.pack(record))

    def remove(self, name: str) -> None:
        remove_file(self._path(name))

    def load(self) -> dict[str, KeyRecord]:
        """All keys by lower-case name, which is how Key Vault compares names."""
        records = {}
        for path in sorted(self._keys.glob(f"*{_SUFFIX}")):
            name = path.name.removesuffix(_SUFFIX)
            try:
                content = path.read_bytes()
            except OSError as error:
                raise StateDamaged(f"{path}: {error}") from error
            records[name] = self.parse(name, content)
        return records

    def pack(self, record: KeyRecord) -> bytes:
        return _MAGIC + self._sealer.seal(
            msgspec.msgpack.encode(record), self._context(record.name)
        )

    def parse(self, name: str, content: bytes) -> KeyRecord:
        context = self._context(name)
        if not content.startswith(_MAGIC):
            raise StateDamaged(f"{context}: does not start as a key file of this version")
        plaintext = self._sealer.open(content.removeprefix(_MAGIC), context)
        try:
            record = msgspec.msgpack.decode(plaintext, type=KeyRecord)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateDamaged(f"{context}: {error}") from error
        if record.name.lower() != name or not record.versions:
            raise StateDamaged(f"{context}: holds the key {record.name}")
        return record

    def _context(self, name: str) -> str:
        return f"vault {self.folder.name} key {name.lower()}"

    def _path(self, name: str) -> Path:
        return self._keys / f"{name.lower()}{_SUFFIX}"
