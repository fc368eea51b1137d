"""What Key Vault answers about keys: bundles, list items, pages, rotation policies. Pure rendering.

`vault_url` is the address that the client used, port included: identifiers must lead back to it.
"""

from typing import Any
from urllib.parse import quote

from keyhierarchy.vault.identifiers import to_base64url
from keyhierarchy.vault.material import public_members
from keyhierarchy.vault.records import KeyRecord, KeyVersion, RotationPolicy, VaultProperties

Document = dict[str, Any]


def key_id(vault_url: str, name: str, version: str = "") -> str:
    base = f"{vault_url}/keys/{name}"
    return f"{base}/{version}" if version else base


def _attributes(version: KeyVersion, properties: VaultProperties) -> Document:
    attributes: Document = {"enabled": version.enabled}
    for member in ("nbf", "exp"):
        value = getattr(version, member)
        if value is not None:
            attributes[member] = value
    attributes |= {
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": properties.recovery_level,
        "recoverableDays": properties.retention_days,
    }
    if version.exportable is not None:
        attributes["exportable"] = version.exportable
    # The service's numbers: 0 is software, 2 its present generation of hardware.
    attributes["hsmPlatform"] = "2" if version.in_hardware else "0"
    return attributes


def key_bundle(
    vault_url: str, record: KeyRecord, version: KeyVersion, properties: VaultProperties
) -> Document:
    bundle: Document = {
        "key": {
            "kid": key_id(vault_url, record.name, version.version),
            "kty": version.kty,
            "key_ops": version.key_ops,
            **public_members(version.kty, version.secret),
        },
        "attributes": _attributes(version, properties),
    }
    if version.tags:
        bundle["tags"] = version.tags
    if version.release_policy is not None:
        bundle["release_policy"] = {
            "contentType": version.release_policy.content_type,
            "data": version.release_policy.data,
            "immutable": version.release_policy.immutable,
        }
    return bundle


def _deletion(vault_url: str, record: KeyRecord) -> Document:
    if record.deletion is None:
        return {}
    return {
        "recoveryId": f"{vault_url}/deletedkeys/{record.name}",
        "deletedDate": record.deletion.deleted,
        "scheduledPurgeDate": record.deletion.scheduled_purge,
    }


def deleted_key_bundle(vault_url: str, record: KeyRecord, properties: VaultProperties) -> Document:
    bundle = key_bundle(vault_url, record, record.latest, properties)
    return _deletion(vault_url, record) | bundle


def key_item(
    vault_url: str, record: KeyRecord, version: KeyVersion | None, properties: VaultProperties
) -> Document:
    """Without a version: the key itself, shown with the attributes of its latest version."""
    shown = version or record.latest
    item = _deletion(vault_url, record) | {
        "kid": key_id(vault_url, record.name, version.version if version else ""),
        "attributes": _attributes(shown, properties),
    }
    if shown.tags:
        item["tags"] = shown.tags
    return item


def page(items: list[Document], path: str, query: str, next_token: str | None) -> Document:
    """`path` is absolute; `query` carries the parameters that a continuation keeps."""
    if next_token is None:
        return {"value": items, "nextLink": None}
    token = quote(to_base64url(next_token.encode()))
    return {"value": items, "nextLink": f"{path}?{query}&$skiptoken={token}"}


def rotation_policy(vault_url: str, name: str, policy: RotationPolicy) -> Document:
    actions: list[Document] = []
    for action in policy.actions:
        trigger: Document = {}
        if action.time_after_create:
            trigger["timeAfterCreate"] = action.time_after_create
        if action.time_before_expiry:
            trigger["timeBeforeExpiry"] = action.time_before_expiry
        actions.append({"trigger": trigger, "action": {"type": action.action}})
    attributes: Document = {"created": policy.created, "updated": policy.updated}
    if policy.expiry_time:
        attributes["expiryTime"] = policy.expiry_time
    return {
        "id": f"{key_id(vault_url, name)}/rotationpolicy",
        "lifetimeActions": actions,
        "attributes": attributes,
    }
