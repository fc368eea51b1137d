"""Which operation a method and a path name, and what the operation is called elsewhere.

Pure. The same table gives the permission that is checked, the name in the audit log and the name
that a fault is switched on for.
"""

from dataclasses import dataclass

from keyhierarchy.vault.identifiers import is_key_name


@dataclass(frozen=True)
class Operation:
    """`name` selects handler and faults; `permission` is an access policy's word."""

    name: str
    permission: str
    audit_name: str


@dataclass(frozen=True)
class Route:
    operation: Operation
    key: str = ""
    version: str = ""


_TABLE = [
    Operation("create", "create", "KeyCreate"),
    Operation("import", "import", "KeyImport"),
    Operation("get", "get", "KeyGet"),
    Operation("update", "update", "KeyUpdate"),
    Operation("list", "list", "KeyList"),
    Operation("versions", "list", "KeyListVersions"),
    Operation("delete", "delete", "KeyDelete"),
    Operation("getdeleted", "get", "KeyGetDeleted"),
    Operation("listdeleted", "list", "KeyListDeleted"),
    Operation("recover", "recover", "KeyRecover"),
    Operation("purge", "purge", "KeyPurge"),
    Operation("backup", "backup", "KeyBackup"),
    Operation("restore", "restore", "KeyRestore"),
    Operation("rotate", "rotate", "KeyRotate"),
    Operation("getrotationpolicy", "getrotationpolicy", "KeyGetRotationPolicy"),
    Operation("setrotationpolicy", "setrotationpolicy", "KeyUpdateRotationPolicy"),
    Operation("wrapKey", "wrapKey", "KeyWrap"),
    Operation("unwrapKey", "unwrapKey", "KeyUnwrap"),
    Operation("encrypt", "encrypt", "KeyEncrypt"),
    Operation("decrypt", "decrypt", "KeyDecrypt"),
    Operation("sign", "sign", "KeySign"),
    Operation("verify", "verify", "KeyVerify"),
    Operation("release", "release", "KeyRelease"),
    Operation("attestation", "get", "KeyGetAttestation"),
    Operation("rng", "get", "RandomBytesGet"),
]
OPERATIONS = {operation.name: operation for operation in _TABLE}
PERMISSIONS = tuple(sorted({operation.permission for operation in _TABLE}))

# Verbs behind a key name, by method; the client writes them in lower case, older ones do not.
_NAME_VERBS = {
    ("POST", "create"): "create",
    ("POST", "rotate"): "rotate",
    ("POST", "backup"): "backup",
    ("GET", "versions"): "versions",
    ("GET", "rotationpolicy"): "getrotationpolicy",
    ("PUT", "rotationpolicy"): "setrotationpolicy",
}
_VERSION_VERBS = {
    ("POST", verb.lower()): verb
    for verb in ("wrapKey", "unwrapKey", "encrypt", "decrypt", "sign", "verify", "release")
} | {("GET", "attestation"): "attestation"}
_ON_A_KEY = {"GET": "get", "PUT": "import", "DELETE": "delete", "PATCH": "update"}
_ON_A_DELETED_KEY = {"GET": "getdeleted", "DELETE": "purge"}
_ON_A_VERSION = {"GET": "get", "PATCH": "update"}


def match(method: str, path: str) -> Route | None:
    """None when no operation answers there. An empty version segment means the latest version."""
    collection, *rest = path.removeprefix("/").removesuffix("/").split("/")
    found: tuple[str | None, str, str]
    match collection.lower(), rest:
        case "keys", []:
            found = ("list" if method == "GET" else None), "", ""
        case "keys", [word] if (method, word.lower()) == ("POST", "restore"):
            found = "restore", "", ""
        case "keys", [key]:
            found = _ON_A_KEY.get(method), key, ""
        case "keys", [key, *tail]:
            found = _below_a_key(method, key, tail)
        case "deletedkeys", []:
            found = ("listdeleted" if method == "GET" else None), "", ""
        case "deletedkeys", [key]:
            found = _ON_A_DELETED_KEY.get(method), key, ""
        case "deletedkeys", [key, verb] if (method, verb.lower()) == ("POST", "recover"):
            found = "recover", key, ""
        case "rng", [] if method == "POST":
            found = "rng", "", ""
        case _:
            return None
    name, key, version = found
    if name is None or (key and not is_key_name(key)):
        return None
    return Route(OPERATIONS[name], key, version)


def _below_a_key(method: str, key: str, tail: list[str]) -> tuple[str | None, str, str]:
    match tail:
        case [verb] if (method, verb.lower()) in _NAME_VERBS:
            return _NAME_VERBS[method, verb.lower()], key, ""
        case [verb] if (method, verb.lower()) in _VERSION_VERBS:
            return _VERSION_VERBS[method, verb.lower()], key, ""
        case [version]:
            return _ON_A_VERSION.get(method), key, version
        case [version, verb]:
            return _VERSION_VERBS.get((method, verb.lower())), key, version
        case _:
            return None, key, ""
