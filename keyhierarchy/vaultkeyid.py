"""The id of a key in a vault: https://HOST/keys/NAME/VERSION, taken apart strictly. PURE.

Anything else is refused with what is wrong with it: a store must not be able to name a place that
only looks like a vault, and a key without a version would change under its wraps.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from keyhierarchy.errors import RootKeyRefused

MALFORMED = "malformed-key-id"
_LABELS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9-]+)+"
_HOST = re.compile(rf"(?=.{{1,253}}(?::|\Z)){_LABELS}(:[0-9]{{1,5}})?")
_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_VERSION = re.compile(r"[0-9a-f]{32}")
_SHAPE = "https://VAULT-HOST/keys/NAME/VERSION"
_HSM_LABEL = "managedhsm"


class VaultKeyId(NamedTuple):
    """A key id in its parts; `host` is in lower case, with the port unless that is 443."""

    text: str
    host: str
    name: str
    version: str

    @property
    def vault_url(self) -> str:
        """What a client is pointed at."""
        return f"https://{self.host}"

    @property
    def managed_hsm(self) -> bool:
        """Whether the host is that of a Managed HSM and not of a vault."""
        return _HSM_LABEL in self.host.split(":")[0].split(".")[1:]


def parse(key_id: str) -> VaultKeyId:
    """Take a key id apart; RootKeyRefused says what is wrong with one that is not whole."""
    scheme, separator, rest = key_id.partition("://")
    if not separator or scheme.lower() != "https":
        raise _malformed(key_id, "it does not begin with https://")
    host, *path = rest.split("/")
    host = host.lower().removesuffix(":443")
    if not _HOST.fullmatch(host):
        raise _malformed(key_id, f"{host[:200]!a} is no host name of a vault")
    if not path or path[0] != "keys":
        raise _malformed(key_id, "its path does not begin with /keys/")
    if len(path) < 2 or not _NAME.fullmatch(path[1]):  # noqa: PLR2004 - "keys" and the name
        raise _malformed(key_id, "it has no name of letters, digits and hyphens")
    version = path[2].lower() if len(path) > 2 else ""  # noqa: PLR2004
    if not version:
        raise _malformed(key_id, "it has no version, and a key is registered by its version")
    if len(path) > 3 or not _VERSION.fullmatch(version):  # noqa: PLR2004
        raise _malformed(key_id, "its version is not 32 hex digits")
    return VaultKeyId(f"https://{host}/keys/{path[1]}/{version}", host, path[1], version)


def _malformed(key_id: str, what: str) -> RootKeyRefused:
    shown = key_id[:200].encode("ascii", "backslashreplace").decode()
    return RootKeyRefused(
        f"{shown!r} is no id of a vault key: {what}; it has the form {_SHAPE}",
        key_id=shown,
        cause=MALFORMED,
    )
