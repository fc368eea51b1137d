"""Build root keys as this host's administrator allows: vault keys for customers, else host keys.

The one place that knows both the settings and the Azure root; azure is loaded when the first vault
key is built. Asks nobody by itself.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from keyhierarchy import administration, vaultkeyid
from keyhierarchy.servicekeys import service_roots

if TYPE_CHECKING:
    from keyhierarchy.administration import Settings
    from keyhierarchy.opening import RootSource
    from keyhierarchy.policy import DataEncryptionPolicy, TikWrap
    from keyhierarchy.rootkey import RootKey
    from keyhierarchy.roots.azure_vault import AzureVaultRoot

CUSTOMER_SLOTS = ("primary", "secondary")


class VaultRoots:
    """The vault keys of one process: connections and the credential are shared and kept."""

    def __init__(self, state_dir: str, credential: Any | None = None) -> None:
        self._state_dir = state_dir
        self._credential = credential
        self._built: dict[str, tuple[Settings, AzureVaultRoot]] = {}
        self._lock = threading.Lock()

    def root(self, key_id: str) -> AzureVaultRoot:
        """Return the root for a key that an administrator has named, listed or not."""
        return self._root(key_id, administration.load(self._state_dir).settings)

    def listed_root(self, policy: DataEncryptionPolicy, wrap: TikWrap) -> AzureVaultRoot:
        """Return the root for a wrap that a store names; RootKeyNotListed where it may not."""
        known = administration.load(self._state_dir)
        known.check(wrap.key_id, policy_id=policy.id, slot=wrap.slot)
        return self._root(wrap.key_id, known.settings)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            built, self._built = self._built, {}
        for _, root in built.values():
            root.close()

    def _root(self, key_id: str, settings: Settings) -> AzureVaultRoot:
        from keyhierarchy.roots.azure_vault import AzureVaultRoot  # noqa: PLC0415 - loads azure

        name = vaultkeyid.parse(key_id).text
        with self._lock:
            made_with, root = self._built.get(name, (None, None))
            if root is None or made_with != settings:
                root = AzureVaultRoot(
                    name,
                    credential=lambda: self._token_source(settings),
                    connection_verify=settings.ca_file or True,
                    deadline_seconds=settings.call_deadline_seconds,
                    connect_seconds=settings.connect_seconds,
                    read_seconds=settings.read_seconds,
                )
                self._built[name] = (settings, root)
            return root

    def _token_source(self, settings: Settings) -> Any:
        with self._lock:
            if self._credential is None:
                self._credential = credential(settings)
            return self._credential


def credential(settings: Settings) -> Any:
    """Return the credential of this host: DefaultAzureCredential, as the settings want it."""
    from keyhierarchy.roots.azure_vault import default_credential  # noqa: PLC0415 - loads azure

    options: dict[str, Any] = {"connection_verify": settings.authority_ca_file or True}
    if settings.authority_host is not None:
        options["authority"] = settings.authority_host
    if settings.disable_instance_discovery:
        options["disable_instance_discovery"] = True
    return default_credential(**options)


def all_roots(state_dir: str, vaults: VaultRoots | None = None) -> RootSource:
    """Return the source for a mount: service-managed and customer keys; no availability key."""
    vaults = vaults or VaultRoots(state_dir)
    service = service_roots(state_dir)

    def source(policy: DataEncryptionPolicy, wrap: TikWrap) -> RootKey | None:
        if wrap.slot in CUSTOMER_SLOTS:
            return vaults.listed_root(policy, wrap)
        return service(policy, wrap)

    return source
