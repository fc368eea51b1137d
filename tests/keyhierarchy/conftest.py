"""A store's control folder and a host's state folder, apart from each other, and keys in them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyhierarchy import statedir
from keyhierarchy.hierarchy import Hierarchy, create_store_keys


@dataclass
class Place:
    """One store and one host."""

    folder: Path
    store_id: bytes = field(default_factory=lambda: os.urandom(16))
    root_directory_id: bytes = field(default_factory=lambda: os.urandom(16))
    site_id: bytes = b""

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    @property
    def control(self) -> str:
        return str(self.folder / "store" / ".ckfs")

    @property
    def keystore(self) -> Path:
        return self.folder / "store" / ".ckfs" / "keystore.json"

    @property
    def state(self) -> str:
        return str(self.folder / "state")

    @property
    def service_keys(self) -> Path:
        return self.folder / "state" / "service-keys"

    @property
    def host(self) -> Path:
        """What the host keeps of this store."""
        return Path(statedir.store_folder(self.state, self.store_id))

    def create(self) -> bytes:
        self.site_id = create_store_keys(
            self.control, self.state, self.store_id, self.root_directory_id
        )
        return self.site_id

    def open(self, **options) -> Hierarchy:
        return Hierarchy.open(self.control, self.state, self.store_id, **options)

    def document(self) -> dict:
        return json.loads(self.keystore.read_text())

    def write(self, document: object) -> None:
        self.keystore.write_text(json.dumps(document))

    def events(self) -> list[str]:
        lines = (self.host / "audit.log").read_text().splitlines()
        return [f"{record['event']} {record['outcome']}" for record in map(json.loads, lines)]


@pytest.fixture
def place(tmp_path) -> Place:
    """A store folder without keys, and no state folder yet."""
    (tmp_path / "store" / ".ckfs").mkdir(parents=True)
    made = Place(tmp_path)
    identity = {"format": 1, "lowest_reader": 1, "store_id": made.store_id.hex(), "names": "siv"}
    (tmp_path / "store" / ".ckfs" / "store.json").write_text(json.dumps(identity))
    return made


@pytest.fixture
def made(place) -> Place:
    """A store whose keys `ckfs init` has made."""
    place.create()
    return place
