"""Fixed vectors: our own, recomputed here by other means where there are any, and Wycheproof's."""

from __future__ import annotations

import hashlib
import hmac
import json
import pathlib
import struct

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from keyhierarchy.roots import service_managed
from tests.vectors import generate_keyhierarchy

ROOT = pathlib.Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests" / "vectors" / "keyhierarchy.json").read_text())
FOREIGN = ROOT / ".." / "shared" / "data" / "wycheproof" / "aes_siv_cmac_test.json"


def test_the_vectors_are_what_the_code_makes():
    assert generate_keyhierarchy.build() == VECTORS
    assert sum(len(cases) for cases in VECTORS.values()) >= 14
    assert all(VECTORS.values())


def lp(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def expand(key: bytes, length: int, *fields: bytes) -> bytes:
    """HKDF-Expand of RFC 5869 in the standard library's terms."""
    block, made, counter = b"", b"", 1
    while len(made) < length:
        block = hmac.digest(key, block + lp(*fields) + bytes([counter]), "sha256")
        made, counter = made + block, counter + 1
    return made[:length]


def siv(key: bytes, label: bytes, plain: bytes, *fields: bytes) -> bytes:
    return AESSIV(expand(key, 64, label)).encrypt(plain, [lp(label, *fields)])


def cases(name: str) -> list[dict]:
    """The cases of one kind with hex turned into bytes and generations into u32."""
    made = []
    for case in VECTORS[name]:
        values = {}
        for field, value in case.items():
            if isinstance(value, int):
                values[field] = struct.pack(">I", value)
            else:
                values[field] = value.encode() if field == "canonical" else bytes.fromhex(value)
        made.append(values)
    return made


def test_site_keys_by_the_letter_of_the_spec():
    for case in cases("site_key_wrap"):
        fields = [case[n] for n in ("policy_id", "tik_generation", "site_id", "generation")]
        made = siv(case["tik"], b"ckfs/v1/site-key-wrap", case["site_key"], *fields)
        assert made == case["wrapped"]


def test_metadata_keys_by_the_letter_of_the_spec():
    for case in cases("metadata_key"):
        made = expand(case["site_key"], 32, b"ckfs/v1/metadata-key", case["site_id"])
        assert made == case["metadata_key"]
        fields = [case["site_id"], case["generation"]]
        wrapped = siv(case["site_key"], b"ckfs/v1/metadata-key-wrap", made, *fields)
        assert wrapped == case["wrapped"]


def test_file_keys_by_the_letter_of_the_spec():
    for case in cases("file_key_wrap"):
        fields = [case["site_id"], case["generation"], case["file_id"]]
        made = siv(case["site_key"], b"ckfs/v1/file-key-wrap", case["file_key"], *fields)
        assert made == case["wrapped"]


def test_commitments_by_the_letter_of_the_spec():
    for case in cases("site_key_commitment"):
        fields = [b"ckfs/v1/site-key-commitment", case["site_id"], case["generation"]]
        assert expand(case["site_key"], 32, *fields) == case["commitment"]
    for case in cases("tik_fingerprint"):
        fields = [b"ckfs/v1/tik-fingerprint", case["policy_id"], case["generation"]]
        assert expand(case["tik"], 32, *fields) == case["fingerprint"]
    for case in cases("tik_endorsement"):
        fields = [case["policy_id"], case["generation"], case["fingerprint"]]
        made = expand(case["previous_tik"], 32, b"ckfs/v1/tik-endorsement", *fields)
        assert made == case["endorsement"]


def test_service_managed_roots_by_the_letter_of_the_spec():
    label = b"ckfs/v1/service-managed-root"
    for case in cases("service_managed_root"):
        context = case["policy_id"] + case["master_id"]
        made = b"".join(
            hmac.digest(
                case["master_key"],
                struct.pack(">I", i) + label + b"\0" + context + struct.pack(">I", 512),
                "sha256",
            )
            for i in (1, 2)
        )
        assert made == case["policy_key"]
        associated = lp(label, case["policy_id"], case["master_id"])
        wrapped = case["master_id"] + AESSIV(made).encrypt(case["tik"], [associated])
        assert wrapped == case["wrapped"]
        opened = service_managed.unwrap_under(case["master_key"], case["policy_id"], wrapped)
        assert opened == case["tik"]


def test_seals_by_the_letter_of_the_spec():
    label = b"ckfs/v1/keystore-seal"
    for case in cases("keystore_seal"):
        message = lp(label, case["store_id"], case["policy_id"], case["canonical"])
        made = hmac.new(expand(case["tik"], 32, label), message, hashlib.sha256).digest()
        assert made == case["seal"]
        # Canonical by RFC 8785: what Python's own encoder makes of the same values.
        values = json.loads(case["canonical"])
        again = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
        assert again == case["canonical"]


def test_the_library_passes_wycheproofs_aes_siv():
    if not FOREIGN.parent.parent.exists():
        pytest.skip("the shared test data beside the checkout is missing")
    groups = json.loads(FOREIGN.read_text())["testGroups"]
    tested = 0
    for group in groups:
        for case in group["tests"]:
            if len(case["key"]) != 128:
                continue  # only AES-256-SIV is used here
            tested += 1
            cipher = AESSIV(bytes.fromhex(case["key"]))
            message, associated = bytes.fromhex(case["msg"]), bytes.fromhex(case["aad"])
            expected = bytes.fromhex(case["ct"])
            if case["result"] == "valid":
                if message:
                    assert cipher.encrypt(message, [associated]) == expected
                    assert cipher.decrypt(expected, [associated]) == message
            else:
                with pytest.raises(InvalidTag):
                    cipher.decrypt(expected, [associated])
    assert tested >= 100
