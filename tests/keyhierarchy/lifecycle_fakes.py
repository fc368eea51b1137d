"""A host whose root keys do what a test commands: vaults, availability keys, this host's switch."""

from __future__ import annotations

import hashlib
import os

from keyhierarchy import creation, opening, servicekeys, vaultkeyid
from keyhierarchy import keystore as keystores
from keyhierarchy.errors import KeyHierarchyError, RootKeyMissing
from keyhierarchy.lifecycle.session import Store
from keyhierarchy.roots.keyfacts import KeyFacts
from tests.keyhierarchy.fakes import FakeRootKey


def key_id(number: int, *, vault: str = "one", name: str = "root") -> str:
    return f"https://{vault}.vault.test/keys/{name}/{number:032x}"


PRIMARY = key_id(1, vault="one")
SECONDARY = key_id(1, vault="two")


class FakeRooms:
    """The Rooms protocol: service keys are real, everything else is at hand."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self.keys: dict[str, FakeRootKey] = {}
        self.odd: dict[str, dict] = {}
        self.allowed: list[tuple[str, str, str]] = []
        self.revoked: dict[str, str] = {}
        self.availability_keys: dict[str, tuple[str, FakeRootKey]] = {}
        self.availability_used = 0
        self.waiting = 72 * 3600.0

    def key(self, key_id: str) -> FakeRootKey:
        if key_id not in self.keys:
            secret = hashlib.sha512(key_id.encode()).digest()
            self.keys[key_id] = FakeRootKey(key_id, secret)
        return self.keys[key_id]

    def trouble(self, *key_ids: str, error: KeyHierarchyError | None) -> None:
        for one in key_ids:
            self.key(one).trouble = error

    def existing(self, policy, wrap):
        if wrap.slot == "service":
            return servicekeys.service_root(self.state_dir, policy.id)
        if wrap.slot in {"primary", "secondary"}:
            assert (policy.id, wrap.slot, wrap.key_id) in self.allowed
            return self.key(wrap.key_id)
        return None

    def service(self, policy_id):
        servicekeys.ensure_service_key(self.state_dir)
        return servicekeys.service_root(self.state_dir, policy_id)

    def vault(self, policy_id, key_id):
        del policy_id
        return self.key(vaultkeyid.parse(key_id).text)

    def allow(self, policy_id, slot, key_id):
        self.allowed.append((policy_id, slot, key_id))

    def facts(self, root):
        if root.trouble is not None:
            raise root.trouble
        parsed = vaultkeyid.parse(root.key_id)
        facts = {
            "key_id": root.key_id,
            "vault_host": parsed.host,
            "name": parsed.name,
            "version": parsed.version,
            "managed_hsm": False,
            "key_type": "RSA-HSM",
            "hardware": True,
            "size": 3072,
            "operations": ("wrapKey", "unwrapKey"),
            "enabled": True,
            "not_before": None,
            "expires": None,
            "created": None,
            "recovery_level": "Recoverable+ProtectedSubscription",
            "recoverable_days": 90,
            "tags": {},
        }
        return KeyFacts(**(facts | self.odd.get(root.key_id, {})))

    def new_availability(self, policy_id):
        number = len(self.availability_keys) + 1
        name = f"availability:{number:032x}"
        root = FakeRootKey(name, hashlib.sha512(name.encode()).digest())
        self.availability_keys[name] = (policy_id, root)
        return root

    def availability(self, policy_id, key_id):
        self.availability_used += 1
        if key_id not in self.availability_keys:
            raise RootKeyMissing(f"{key_id} is missing", key_id=key_id)
        owner, root = self.availability_keys[key_id]
        assert owner == policy_id
        return root

    def destroy_availability(self, policy_id):
        gone = [name for name, (owner, _) in self.availability_keys.items() if owner == policy_id]
        for name in gone:
            del self.availability_keys[name]
        return gone

    def revoke_here(self, policy_id, reason):
        self.revoked[policy_id] = reason

    def grant_here(self, policy_id):
        self.revoked.pop(policy_id, None)

    def purge_waiting_seconds(self):
        return self.waiting


class World:
    """A store with sites and file keys in it, on a host whose roots a test commands."""

    def __init__(self, place, sites: int = 3) -> None:
        self.place = place
        self.rooms = FakeRooms(place.state)
        self.store = Store(place.control, place.state, place.store_id)
        place.create()
        for number in range(sites - 1):
            creation.create_site(
                place.control,
                place.state,
                place.store_id,
                os.urandom(16),
                ("sharepoint", "teams")[number % 2],
            )
        self.files: list[tuple[bytes, int, bytes, bytes, bytes]] = []
        self.add_files()

    @property
    def section(self):
        return self.keystore.sections[0]

    @property
    def policy(self):
        return self.section.policy

    @property
    def keystore(self):
        return keystores.load(self.place.control, self.place.store_id)

    def bytes(self) -> bytes:
        return self.place.keystore.read_bytes()

    def wrappers(self):
        """Open every site as a mount does, with every check that it makes."""
        hierarchy = self.place.open(roots=self.rooms.existing)
        try:
            for site in hierarchy.sites():
                yield hierarchy.lease(bytes.fromhex(site.site_id))
        finally:
            hierarchy.close()

    def add_files(self) -> None:
        """Write a file key in each site, under its current site key."""
        for lease in self.wrappers():
            file_id, file_key = os.urandom(16), os.urandom(32)
            wrapped = lease.wrap_file_key(file_id, file_key)
            self.files.append((lease.site_id, lease.generation, file_id, file_key, wrapped))

    def check(self) -> None:
        """Every file key of every time opens, through the keystore that is on disk now."""
        hierarchy = self.place.open(roots=self.rooms.existing)
        try:
            for site_id, generation, file_id, file_key, wrapped in self.files:
                lease = hierarchy.lease(site_id)
                assert lease.unwrap_file_key(file_id, generation, wrapped) == file_key
        finally:
            hierarchy.close()

    def opens_alone(self, *slots: str) -> bool:
        """Tell whether root keys of these slots alone open the policy, as its seal demands."""

        def source(policy, wrap):
            if wrap.slot not in slots:
                return None
            if wrap.slot == "availability":
                return self.rooms.availability(policy.id, wrap.key_id)
            return self.rooms.existing(policy, wrap)

        try:
            opening.open_section(
                self.section,
                None,
                store_id=self.place.store_id,
                roots=source,
                place="here",
            )
        except KeyHierarchyError:
            return False
        return True
