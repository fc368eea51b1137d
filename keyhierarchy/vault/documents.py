"""The JSON that clients send, as typed values; anything malformed becomes BadParameter.

Unknown members are ignored, as the service does. What Key Vault answers is built in `bundles`.
"""

from typing import TypeVar

import msgspec

from keyhierarchy.vault.errors import bad_parameter
from keyhierarchy.vault.identifiers import from_base64url
from keyhierarchy.vault.records import ReleasePolicy

MAXIMUM_TAGS = 15
MAXIMUM_TAG_LENGTH = 256
# Dates travel as Unix seconds; the last second of the year 9999 is the latest that a client shows.
_LATEST_DATE = 253_402_300_799


class Attributes(msgspec.Struct):
    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    exportable: bool | None = None


class ReleasePolicyBody(msgspec.Struct):
    data: str = ""
    content_type: str = msgspec.field(name="contentType", default="application/json; charset=utf-8")
    immutable: bool = False

    def to_record(self) -> ReleasePolicy:
        return ReleasePolicy(self.content_type, self.data, self.immutable)


class JsonWebKey(msgspec.Struct):
    kty: str
    key_ops: list[str] | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    d: str | None = None
    p: str | None = None
    q: str | None = None
    dp: str | None = None
    dq: str | None = None
    qi: str | None = None
    x: str | None = None
    y: str | None = None
    k: str | None = None
    key_hsm: str | None = None

    def __repr__(self) -> str:
        """Leave out what is private of an imported key."""
        return f"<JsonWebKey {self.kty}>"


class KeyMetadata(msgspec.Struct):
    """The members that create, import and update share."""

    attributes: Attributes | None = None
    tags: dict[str, str] | None = None
    key_ops: list[str] | None = None
    release_policy: ReleasePolicyBody | None = None


class CreateKey(KeyMetadata, kw_only=True):
    kty: str
    key_size: int | None = None
    public_exponent: int | None = None
    crv: str | None = None


class ImportKey(KeyMetadata, kw_only=True):
    key: JsonWebKey
    hsm: bool | None = msgspec.field(name="Hsm", default=None)


class KeyOperation(msgspec.Struct):
    alg: str
    value: str
    iv: str | None = None
    aad: str | None = None
    tag: str | None = None

    def __repr__(self) -> str:
        """Leave out the value: a key that is to be wrapped, or data in plaintext."""
        return f"<KeyOperation {self.alg}>"


class Verify(msgspec.Struct):
    alg: str
    digest: str
    value: str


class Restore(msgspec.Struct):
    value: str


class RandomBytes(msgspec.Struct):
    count: int


class Trigger(msgspec.Struct):
    time_after_create: str | None = msgspec.field(name="timeAfterCreate", default=None)
    time_before_expiry: str | None = msgspec.field(name="timeBeforeExpiry", default=None)


class ActionType(msgspec.Struct):
    type: str


class LifetimeActionBody(msgspec.Struct):
    action: ActionType
    trigger: Trigger | None = None


class RotationAttributes(msgspec.Struct):
    expiry_time: str | None = msgspec.field(name="expiryTime", default=None)


class RotationPolicyBody(msgspec.Struct):
    lifetime_actions: list[LifetimeActionBody] | None = msgspec.field(
        name="lifetimeActions", default=None
    )
    attributes: RotationAttributes | None = None


Body = TypeVar("Body", bound=msgspec.Struct)


def parse_body(body: bytes, shape: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_parameter(f"The request body is not what this operation takes: {error}") from None


def decode_member(name: str, text: str | None) -> bytes:
    """The bytes of a base64url member; the wording of the refusal is the service's."""
    if not text:
        raise bad_parameter(f"Property '{name}' is required.\r\n")
    try:
        return from_base64url(text)
    except ValueError:
        raise bad_parameter(
            f"Content of '{name}' is not base64url.\r\nProperty '{name}' is required.\r\n"
        ) from None


def check_metadata(metadata: KeyMetadata) -> None:
    tags = metadata.tags or {}
    if len(tags) > MAXIMUM_TAGS:
        raise bad_parameter(f"A key can have at most {MAXIMUM_TAGS} tags.")
    if any(max(len(name), len(value)) > MAXIMUM_TAG_LENGTH for name, value in tags.items()):
        raise bad_parameter(f"Tags are limited to {MAXIMUM_TAG_LENGTH} characters.")
    attributes = metadata.attributes or Attributes()
    nbf, exp = attributes.nbf, attributes.exp
    for date in (nbf, exp):
        if date is not None and not 0 <= date <= _LATEST_DATE:
            raise bad_parameter(f"{date} is not a date that a key can have.")
    if nbf is not None and exp is not None and nbf > exp:
        raise bad_parameter("The not-before date must lie before the expiry date.")
