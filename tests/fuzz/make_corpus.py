"""Writes the corpus: real bytes, of the frozen store, of the vectors, of keys that were rolled.

Run as a program. Entries keep their place in the tree; what changes of itself is made once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from fsdriver import contentdb_document, contentdb_file
from fsdriver import folder as folders
from fsdriver.contentdb_file import Meta
from fsdriver.findings import FileReport
from fsdriver.format import delta, directory, filekeys, header, names
from fsdriver.format.delta import Delta
from fsdriver.format.header import HEADER_SIZE, ClearHeader
from fsdriver.format.journal import NO_CUT, Draft, Transaction, size_of
from fsdriver.scrubstate import ScrubState
from fsdriver.sessionbook import SessionBook
from fsdriver.transport.protocol import Opcode
from keyhierarchy import administration, documents, revocation, wrapping
from keyhierarchy.lifecycle import backups, purgerecord
from keyhierarchy.roots.service_managed import ServiceManagedRoot
from keyhierarchy.vault.identifiers import to_base64url
from keyhierarchy.vault.records import Principal
from keyhierarchy.wrapping import FileKeyWrapper
from tests.fuzz import targets_keys, targets_recovery, targets_store, targets_vault, world
from tests.fuzz.engine import CORPUS
from tests.transport.fakekernel import request

VECTORS = Path(__file__).parents[1] / "vectors" / "format.json"
KEY_URI = "https://kv1.vault.test/keys/root/" + "0" * 32
WHEN = "2026-11-22T00:00:00.000Z"
RSA = {"alg": "RSA-OAEP-256"}


def put(name: str, *entries: bytes) -> None:
    """Each under the digest of its bytes."""
    place = CORPUS / name
    place.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        (place / hashlib.sha256(entry).hexdigest()[:16]).write_bytes(entry)


def put_json(name: str, *values: object) -> None:
    put(name, *(json.dumps(value).encode() for value in values))


def store() -> None:
    top = world.golden()[0]
    cipher, lease = world.names(), world.lease()
    for place, below, files in os.walk(top):
        here = Path(place)
        if ".ckfs" in here.parts:
            continue
        for name in [*files, *below]:
            path = here / name
            if path.is_symlink():
                text = os.readlink(path).encode()
                put("symlink", text)
                raw = names._unpack_symlink(text.decode())
                put("symlink-sealed", cipher._symlinks.decrypt(raw, [b"\x01"]))
            if here == top and not name.startswith(".ckfs"):
                put("name", name.encode())
                put("base32hex", name.encode())
                put("name-sealed", cipher.decrypt_name(world.root_id(), name)[0])
            if name.startswith(folders.LONG_NAME):
                put("sidecar", path.read_bytes())
            if name == directory.RECORD_NAME:
                record = path.read_bytes()
                put("directory-record", record)
                size = directory._CLEAR.size
                sealed = cipher.directory_records.decrypt(record[size:], [record[:size]])
                put("directory-record-sealed", sealed)
            if path.is_file() and not path.is_symlink() and not name.startswith(".ckfs-n"):
                _header(path.read_bytes()[:HEADER_SIZE], lease)
    vectors = json.loads(VECTORS.read_text())
    for case in vectors["headers"]:
        raw, file_key = bytes.fromhex(case["header"]), bytes.fromhex(case["file_key"])
        keys = filekeys.derive(file_key, ClearHeader.parse(raw).file_id)
        put("header-sealed", header.unseal(raw, header.AESGCM(keys.header_key)).pack())
    for case in vectors["extent_maps"]:
        put("extent-map", case["chunk_count"].to_bytes(8) + bytes.fromhex(case["packed"]))
    put("base32hex", b"", b"00", b"v" * 200)
    put("name-sealed", b"a", b"x" * 255, bytes(range(1, 47)))
    for name, value in (
        (b"user.a", b""),
        (b"user." + b"n" * 100, b"value"),
        (b"user.b", b"\0" * 99),
    ):
        put("xattr-name", cipher.encrypt_xattr_name(targets_store.OWNER, name).encode())
        stored = cipher.encrypt_xattr_value(
            targets_store.OWNER, b"user.name", value, salt=bytes(range(16))
        )
        put("xattr-value", stored)
        put("xattr-value-sealed", b"\0" + value)
    document = (top / ".ckfs" / "store.json").read_bytes()
    put("store-json", document)
    put("store-id", document)


def _header(raw: bytes, lease) -> None:
    if raw[:5] != b"CKFS\x01":
        return
    put("header", raw)
    put("header-clear", raw, raw[:128])
    clear = ClearHeader.parse(raw)
    file_key = lease.unwrap_file_key(
        clear.file_id, clear.site_key_generation, clear.wrapped_file_key
    )
    keys = filekeys.derive(file_key, clear.file_id)
    put("header-sealed", header.unseal(raw, header.AESGCM(keys.header_key)).pack())


def recovery() -> None:
    """A journal with two transactions, exports with rows of every kind, notes of a scrub."""
    cipher, owner = targets_recovery.cipher(), targets_store.OWNER
    whole = cipher.sealed_head()
    put("journal-head", whole)
    put("journal", whole, whole.ljust(4096, b"\0"))
    for sequence, cut, images in (
        (1, NO_CUT, {512: b"a record" * 9, 4648: b"another"}),
        (2, 512, {}),
    ):
        change = Transaction(owner, 4711, cut, 8784, bytes(HEADER_SIZE))
        sizes = [(offset, len(record)) for offset, record in images.items()]
        draft = Draft(memoryview(bytearray(size_of(sizes))), sizes)
        for number, record in enumerate(images.values()):
            draft.image(number)[:] = record
        draft.finish(cipher, sequence, change, nonce=bytes(11) + bytes([sequence]))
        whole += draft.frame
        put("journal", whole)
        draft.finish(cipher, 1, change, nonce=bytes(12))
        put("journal-transaction", bytes(draft.frame)[:-16])
    for sequence, content in ((3, b"a delta"), (4, b"another" * 9)):
        frame = memoryview(bytearray(len(content) + delta.OVERHEAD))
        small = Delta(owner, 4711, sequence, 7 * sequence, 8784)
        chunks, random = targets_recovery.chunk_cipher(), bytes([sequence]) * 36
        delta.pack(frame, small, memoryview(content), chunks, cipher, sequence, random=random)
        whole += frame
        put("journal", whole)
        delta.pack(frame, small, memoryview(content), chunks, cipher, 1, random=random)
        put("journal-delta", bytes(frame)[:-16])
    for complete, rows in (
        (True, []),
        (
            False,
            [
                ("policies", (owner, 1, bytes(32), 2)),
                ("folders", (owner, 0)),
                ("entries", (owner, b"35emau34", b"")),
                ("entries", (owner, b"m5hns623", b"o" * 16)),
                ("objects", (b"o" * 16, 9)),
            ],
        ),
    ):
        tables = [table for table, _values in rows]
        counts = tuple(map(tables.count, contentdb_document.TABLES))
        head = contentdb_document.Head(Meta(owner, complete, 1, 7, 1795305600), counts)
        document = targets_recovery.packed_export((head, rows))
        put("contentdb-export", document)
        put("contentdb-export-sealed", document[: -contentdb_document.MAC_SIZE])
        with tempfile.TemporaryDirectory() as place:
            path = f"{place}/{contentdb_file.FILE_NAME}"
            contentdb_file.replace(path, head.meta, rows)
            put("contentdb", Path(path).read_bytes())
    with tempfile.TemporaryDirectory() as place:
        for inode in (0, 1, (1 << 64) - 1):
            with ScrubState(place, resume=True) as state:
                state.note(FileReport(place="f", path="/f", inode=inode, changed_ns=5, length=6))
            put("scrub-state", Path(place, "scrub.sqlite").read_bytes())


def host() -> None:
    with tempfile.TemporaryDirectory() as place:
        for _killed in range(2):
            SessionBook(place).begin(read_only=False, accepts_all=False)
            put("sessions-json", Path(place, "sessions.json").read_bytes())
    put_json("lock-note", {"pid": 4711, "mountpoint": "/mnt/files"})
    put(
        "mount-options",
        b"ro,noatime,uid=1000,gid=1000",
        b"entry_timeout=1.5,attr_timeout=0,recover",
        b"x-systemd.automount,_netdev,nofail\0allow_other,default_permissions",
        b"",
    )
    put("mount-table", rb"/mnt/with\040space\134and\011tab", b"/srv/store")


def keys() -> None:
    """A store that lives: made, rolled, revoked and asked for its purge, by the real programs."""
    with tempfile.TemporaryDirectory() as top:
        state, made = f"{top}/state", f"{top}/store"
        tools = Path(sys.executable).parent
        environment = {**os.environ, "CKFS_STATE_DIR": state}

        def run(*command: str, check: bool = True) -> None:
            subprocess.run([tools / command[0], *command[1:]], env=environment, check=check)

        run("ckfs", "init", made)
        keystore = Path(made, ".ckfs", "keystore.json")
        (section,) = json.loads(keystore.read_text())["sections"]
        site = section["sites"][0]["site_id"]
        for what in (("tik", made), ("site-key", made, site), ("tik", made)):
            put("keystore", keystore.read_bytes())
            run("ckfs-keys", "roll", *what, "--yes")
        for section in json.loads(keystore.read_text())["sections"]:
            put_json("policy", section["policy"])
            policy_id = section["policy"]["id"]
        _customers(json.loads(keystore.read_text()))
        run("ckfs-keys", "service-key", "roll")
        run("ckfs-keys", "rewrap", made)
        put("keystore", keystore.read_bytes())
        for name in Path(state, "service-keys").glob("*.key"):
            put("master-key", name.read_bytes())
        (folder,) = (one for one in Path(state, "stores").iterdir() if one.is_dir())
        put("anchor", (folder / "anchor.json").read_bytes())
        log, head = (folder / "audit.log").read_bytes(), (folder / "audit.head").read_bytes()
        put("audit-head", head)
        put("audit-line", *(line + b"\n" for line in log.splitlines()[:4]))
        administration.allow(state, KEY_URI, policy_id=policy_id, slot="primary")
        administration.allow_host(state, "kv2.vault.test:8443")
        put("administration", Path(state, "administration.json").read_bytes())
        revocation.set(state, policy_id, "a drill")
        put("revocations", Path(revocation.path(state)).read_bytes())
    _log()


def _log() -> None:
    """A log of the subject that the target has."""
    with tempfile.TemporaryDirectory() as place:
        log = targets_keys.audit.AuditLog(place, targets_keys.ID, request_id="0" * 16)
        for number in range(3):
            log.append("tik.rewrap", "ok", generation=number + 1, reason="for the corpus")
        both = [Path(place, name).read_bytes() for name in ("audit.head", "audit.log")]
    put("audit-log", targets_keys.BETWEEN.join(both))
    put("audit-append", targets_keys.BETWEEN.join(both), targets_keys.BETWEEN.join(both)[:-20])


def _customers(keystore: dict) -> None:
    """The same document with every member that customer keys bring, in all its shapes."""
    (section,) = keystore["sections"]
    policy = section["policy"]
    wrap = policy["tik_generations"][-1]["wraps"][0]
    for slot in ("primary", "secondary", "availability"):
        key_id = KEY_URI if slot != "availability" else "availability:" + "1" * 32
        more = {"slot": slot, "key_id": key_id, "algorithm": "RSA-OAEP-256"}
        policy["tik_generations"][-1]["wraps"].append({**wrap, **more})
    policy["operation"] = {
        "verb": "roll-root",
        "started": WHEN,
        "after": 2,
        "target": "primary",
        "key_ids": [KEY_URI],
    }
    policy["retired_keys"] = [{"slot": "primary", "key_id": KEY_URI, "retired": WHEN}]
    section["mark"] = {"state": 5, "since": WHEN}
    keystore["format"] = keystore["lowest_reader"] = 2
    put_json("keystore", keystore)
    put_json("policy", policy)


def wraps() -> None:
    key, identity = targets_keys.KEY, targets_keys.ID
    site = {"policy_id": identity, "tik_generation": 1, "site_id": identity, "generation": 1}
    put("wrapped-site-key", wrapping.wrap_site_key(key, key, **site))
    put("wrapped-file-key", FileKeyWrapper(key, site_id=identity, generation=1).wrap(identity, key))
    root = ServiceManagedRoot(world.master_keys().folder, world.POLICY)
    put("service-wrap", root.wrap(key))
    put(
        "vault-key-id", KEY_URI.encode(), KEY_URI.replace("kv1.vault.test", "KV.test:8443").encode()
    )
    put("vault-key-id", b"https://h.managedhsm.azure.net:443/keys/a-b/" + b"a" * 32)
    availability = world.availability()
    place = Path(availability.folder)
    put("availability-key", (place / f"{world.AVAILABILITY}.key").read_bytes())
    put("availability-public", availability.read(world.AVAILABILITY).public)
    key_id = f"availability:{world.AVAILABILITY}"
    put("availability-wrap", availability.root(world.POLICY, key_id).wrap(key))
    put("availability-secrets", (place / "secret-store.json").read_bytes())
    put("availability-certificate-key", (place / "certificate.key").read_bytes())
    request = purgerecord.PurgeRequest(
        policy_id=world.POLICY,
        requested=WHEN,
        requester="alice",
        approver="bob",
        reason="offboarded",
        contact="keys@example.org",
        not_before=WHEN,
        was_revoked=False,
        keys=(KEY_URI,),
        sites=("0" * 32,),
    )
    put("purge-request", documents.pack(request))
    keystore = (world.golden()[0] / ".ckfs" / "keystore.json").read_bytes()
    needs = (f"default service {KEY_URI}",)
    common = {"created": WHEN, "keystore_generation": 1, "needs": needs}
    put(
        "backup",
        documents.pack(backups.Backup(store_id=world.POLICY, keystore=keystore, **common)),
    )
    register = backups._Register(backups=(backups.Known(path="/backup", **common),))
    put("backup-register", documents.pack(register))


def vault() -> None:
    value = to_base64url(bytes(range(32)))
    put_json("vault-wrapKey-rsa", {**RSA, "value": value}, {"alg": "RSA-OAEP", "value": value})
    wrapped = targets_vault.answered(
        "wrapKey",
        f"POST /keys/rsa/{world.VERSIONS['rsa']}/wrapKey",
        json.dumps({**RSA, "value": value}).encode(),
    )
    put_json("vault-unwrapKey-rsa", {**RSA, "value": wrapped["value"]})
    for algorithm in ("A256GCM", "A256CBC", "A256CBCPAD", "A256KW", "CKM_AES_KEY_WRAP_PAD"):
        request = {"alg": algorithm, "value": value}
        put_json("vault-encrypt-oct", request, {**request, "iv": value[:22], "aad": value})
        path = f"POST /keys/oct/{world.VERSIONS['oct']}/encrypt"
        sealed = targets_vault.answered("encrypt", path, json.dumps(request).encode())
        put_json("vault-decrypt-oct", {**sealed, "alg": algorithm})
    for algorithm in ("ES256", "ES512", "RS256"):
        put_json("vault-sign-ec", {"alg": algorithm, "value": value})
        put_json("vault-verify-ec", {"alg": algorithm, "digest": value, "value": value * 2})
    for algorithm in ("RS256", "PS384"):
        put_json("vault-verify-rsa", {"alg": algorithm, "digest": value, "value": wrapped["value"]})
    put_json("vault-rng", {"count": 16})
    octets = {"kty": "oct-HSM", "k": value}
    attributes = {"enabled": True, "nbf": 1, "exp": 2, "exportable": False}
    put_json(
        "vault-import",
        {"key": octets, "attributes": attributes, "tags": {"a": "b"}, "Hsm": True},
        {"key": {"kty": "EC", "crv": "P-256", "x": value, "y": value, "d": value}},
        {"key": {"kty": "RSA", "n": value * 8, "e": "AQAB", "d": value * 8}},
    )
    put_json(
        "vault-create",
        {"kty": "RSA-HSM", "key_size": 2048, "key_ops": ["wrapKey"], "attributes": attributes},
        {"kty": "EC", "crv": "P-521", "release_policy": {"data": value, "immutable": True}},
    )
    put_json("vault-update", {"attributes": attributes, "tags": {"x": "y"}, "key_ops": ["sign"]})
    rotate = {"action": {"type": "Rotate"}, "trigger": {"timeAfterCreate": "P1Y2M3D"}}
    notify = {"action": {"type": "Notify"}, "trigger": {"timeBeforeExpiry": "P30D"}}
    put_json(
        "vault-rotation-policy",
        {"lifetimeActions": [rotate, notify], "attributes": {"expiryTime": "P2Y"}},
    )
    blob = world.ring().backup("oct")
    put_json("vault-restore", {"value": to_base64url(blob)})
    put("vault-list", b"maxresults=1&$skiptoken=" + to_base64url(b"ec").encode(), b"")
    for command, words in (
        ("grant", {"vault": "fuzz", "principal": "me", "permissions": ["get"]}),
        ("configure", {"vault": "fuzz", "delete_seconds": 1.5, "throttle": "200"}),
        ("fault-set", {"kind": "503", "vault": "fuzz", "operation": "get", "count": 3}),
        ("clock", {"seconds": 3600, "advance": True}),
        ("fault-clear", {"id": 1}),
        ("show", {}),
    ):
        put("vault-admin", command.encode() + b"\n" + json.dumps(words).encode())
    put("vault-route", b"POST /keys/a/create", b"GET /deletedkeys/a", b"GET /keys/a/" + b"0" * 32)
    put("vault-host", b"kv1.vault.test:8443", b"[::1]:80", b"login.vault.test")
    put("vault-base64url", value.encode(), b"AA==", b"")
    principal = Principal("me", "app", "oid", b"")
    token = targets_vault.TOKENS.issue(principal, targets_vault.TENANT, targets_vault.AUDIENCE)
    put("vault-token", token.encode())
    claims = dict.fromkeys(("aud", "iss", "appid", "oid", "tid"), "x") | {"nbf": 0, "exp": 1 << 40}
    issuer = targets_vault.tokens.issuer_of(targets_vault.TENANT)
    right = {"iss": issuer, "aud": targets_vault.AUDIENCE, "iat": 0}
    put_json("vault-claims", {**claims, **right}, {**claims, "iat": 1})
    put("vault-sealed", targets_vault.SEALER.seal(b"content", "context"))


def transport() -> None:
    words = struct.Struct("=14I")
    requests = [
        request(Opcode.LOOKUP, b"name\0"),
        request(Opcode.GETATTR, bytes(16)),
        request(Opcode.OPENDIR, bytes(8)),
        request(Opcode.STATFS, b""),
        request(Opcode.FORGET, struct.pack("=Q", 1)),
        request(Opcode.BATCH_FORGET, struct.pack("=IIQQ", 1, 0, 1, 1)),
        request(Opcode.INIT, words.pack(7, 45, 1 << 17, 0xFFFFFFFF, 0xFFFFFFFF, *bytes(9))),
        request(Opcode.GETXATTR, struct.pack("=II", 0, 0) + b"user.name\0"),
        request(Opcode.SETXATTR, struct.pack("=II", 1, 0) + b"user.name\0v"),
        request(Opcode.SYMLINK, b"link\0target\0"),
        request(Opcode.RENAME2, struct.pack("=QII", 1, 0, 0) + b"name\0other\0"),
    ]
    requests += [request(opcode, words.pack(*range(14)) + b"name\0") for opcode in Opcode]
    put("fuse-request", *requests)


if __name__ == "__main__":
    shutil.rmtree(CORPUS, ignore_errors=True)
    for part in (store, recovery, host, keys, wraps, vault, transport):
        part()
