"""What the operations on a key's life do: from create to purge, backup, lists and rotation.

Each takes a call and gives the document to answer, or raises VaultError.
"""

import trio

from keyhierarchy.vault import bundles, documents, errors, material
from keyhierarchy.vault.calls import Call, Document, Handler
from keyhierarchy.vault.identifiers import from_base64url, new_version, to_base64url
from keyhierarchy.vault.records import KeyRecord, KeyVersion

LARGEST_PAGE = 25


def _bundle(call: Call, version: KeyVersion) -> Document:
    record = call.ring.key(call.route.key)
    return bundles.key_bundle(call.vault_url, record, version, call.ring.properties)


def _key_type(call: Call, asked: str, *, hardware: bool = False) -> str:
    """The type the key will have: everything in a Managed HSM is in hardware, asked for or not."""
    kty = material.canonical_type(asked)
    if material.family_of(kty) == "oct" and not call.is_hsm:
        raise errors.managed_hsm_only(f"The key type {kty}")
    if (hardware or call.is_hsm) and not kty.endswith("-HSM"):
        return f"{kty}-HSM"
    return kty


def _new_version(
    call: Call, kty: str, secret: bytes, metadata: documents.KeyMetadata, key_ops: list[str] | None
) -> KeyVersion:
    attributes = metadata.attributes or documents.Attributes()
    policy = metadata.release_policy
    if attributes.exportable and policy is None:
        raise errors.bad_parameter("An exportable key needs a release policy.")
    now = int(call.now)
    return KeyVersion(
        version=new_version(),
        kty=kty,
        secret=secret,
        key_ops=key_ops or list(material.DEFAULT_OPERATIONS[material.family_of(kty)]),
        created=now,
        updated=now,
        crv=material.public_members(kty, secret).get("crv"),
        size=material.size_of(kty, secret),
        enabled=attributes.enabled is not False,
        nbf=attributes.nbf,
        exp=attributes.exp,
        exportable=attributes.exportable,
        tags=metadata.tags or {},
        release_policy=None if policy is None else policy.to_record(),
    )


async def create(call: Call) -> Document:
    request = documents.parse_body(call.body, documents.CreateKey)
    documents.check_metadata(request)
    kty = _key_type(call, request.kty)
    call.ring.require_name_free(call.route.key)
    secret = await trio.to_thread.run_sync(
        material.generate, kty, request.key_size, request.crv, request.public_exponent
    )
    version = _new_version(call, kty, secret, request, request.key_ops)
    call.ring.add_version(call.route.key, version)
    return _bundle(call, version)


async def import_key(call: Call) -> Document:
    request = documents.parse_body(call.body, documents.ImportKey)
    documents.check_metadata(request)
    kty = _key_type(call, request.key.kty, hardware=bool(request.hsm))
    secret = await trio.to_thread.run_sync(material.from_jwk, request.key)
    version = _new_version(call, kty, secret, request, request.key_ops or request.key.key_ops)
    call.ring.add_version(call.route.key, version)
    return _bundle(call, version)


async def rotate(call: Call) -> Document:
    old = call.ring.version(call.route.key)
    secret = await trio.to_thread.run_sync(material.generate, old.kty, old.size, old.crv)
    now = int(call.now)
    version = KeyVersion(
        version=new_version(),
        kty=old.kty,
        secret=secret,
        key_ops=old.key_ops,
        created=now,
        updated=now,
        crv=old.crv,
        size=old.size,
        exportable=old.exportable,
        tags=old.tags,
        release_policy=old.release_policy,
    )
    call.ring.add_version(call.route.key, version)
    return _bundle(call, version)


async def get(call: Call) -> Document:
    return _bundle(call, call.ring.version(call.route.key, call.route.version))


async def update(call: Call) -> Document:
    request = documents.parse_body(call.body, documents.KeyMetadata)
    documents.check_metadata(request)
    return _bundle(call, call.ring.update_version(call.route.key, call.route.version, request))


def _page_size(call: Call) -> int:
    text = call.query.get("maxresults", str(LARGEST_PAGE))
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_PAGE:
        raise errors.bad_parameter(f"maxresults must be a number from 1 to {LARGEST_PAGE}.")
    return int(text)


def _page(call: Call, path: str, items: list[tuple[str, Document]]) -> Document:
    """The part of the sorted items that comes after the token of the request."""
    size = _page_size(call)
    try:
        after = from_base64url(call.query.get("$skiptoken", "")).decode()
    except ValueError:
        raise errors.bad_parameter("The $skiptoken is not one that this vault gave.") from None
    rest = [(mark, item) for mark, item in items if mark > after]
    shown = rest[:size]
    query = f"api-version={call.query['api-version']}&maxresults={size}"
    next_token = shown[-1][0] if len(rest) > size else None
    return bundles.page([item for _, item in shown], f"{call.vault_url}{path}", query, next_token)


def _item(call: Call, record: KeyRecord) -> tuple[str, Document]:
    item = bundles.key_item(call.vault_url, record, None, call.ring.properties)
    return record.name.lower(), item


async def list_keys(call: Call) -> Document:
    return _page(call, "/keys", [_item(call, record) for record in call.ring.live_keys()])


async def list_deleted(call: Call) -> Document:
    records = call.ring.deleted_keys()
    return _page(call, "/deletedkeys", [_item(call, record) for record in records])


async def list_versions(call: Call) -> Document:
    """A key that is not there has no versions: the service answers an empty list, not 404."""
    try:
        record = call.ring.key(call.route.key)
    except errors.VaultError:
        return _page(call, "", [])
    items = [
        (each.version, bundles.key_item(call.vault_url, record, each, call.ring.properties))
        for each in sorted(record.versions, key=lambda each: each.version)
    ]
    return _page(call, f"/keys/{record.name}/versions", items)


async def delete(call: Call) -> Document:
    record = call.ring.delete(call.route.key)
    return bundles.deleted_key_bundle(call.vault_url, record, call.ring.properties)


async def get_deleted(call: Call) -> Document:
    record = call.ring.deleted_key(call.route.key)
    return bundles.deleted_key_bundle(call.vault_url, record, call.ring.properties)


async def recover(call: Call) -> Document:
    record = call.ring.recover(call.route.key)
    return bundles.key_bundle(call.vault_url, record, record.latest, call.ring.properties)


async def purge(call: Call) -> None:
    call.ring.purge(call.route.key)


async def backup(call: Call) -> Document:
    return {"value": to_base64url(call.ring.backup(call.route.key))}


async def restore(call: Call) -> Document:
    request = documents.parse_body(call.body, documents.Restore)
    record = call.ring.restore(documents.decode_member("value", request.value))
    return bundles.key_bundle(call.vault_url, record, record.latest, call.ring.properties)


async def get_rotation_policy(call: Call) -> Document:
    policy = call.ring.rotation_policy(call.route.key)
    return bundles.rotation_policy(call.vault_url, call.ring.key(call.route.key).name, policy)


async def set_rotation_policy(call: Call) -> Document:
    body = documents.parse_body(call.body, documents.RotationPolicyBody)
    policy = call.ring.set_rotation_policy(call.route.key, body)
    return bundles.rotation_policy(call.vault_url, call.ring.key(call.route.key).name, policy)


HANDLERS: dict[str, Handler] = {
    "create": create,
    "import": import_key,
    "rotate": rotate,
    "get": get,
    "update": update,
    "list": list_keys,
    "listdeleted": list_deleted,
    "versions": list_versions,
    "delete": delete,
    "getdeleted": get_deleted,
    "recover": recover,
    "purge": purge,
    "backup": backup,
    "restore": restore,
    "getrotationpolicy": get_rotation_policy,
    "setrotationpolicy": set_rotation_policy,
}
