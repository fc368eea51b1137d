"""Write keyhierarchy.json: fixed keys and ids, and what each derivation and wrap makes of them.

Run from the project's root: python -m tests.vectors.generate_keyhierarchy
Change the vectors only together with HIERARCHY.md: they fix the bytes that stores already have.
"""

from __future__ import annotations

import hashlib
import json
import pathlib

from keyhierarchy import keystore, wrapping
from keyhierarchy.policy import TikWrap, default_policy
from keyhierarchy.roots import service_managed

PLACE = pathlib.Path(__file__).with_name("keyhierarchy.json")


def fixed(name: str, length: int) -> bytes:
    """Return bytes that anybody can make again: SHAKE-256 of a name."""
    return hashlib.shake_256(b"ckfs test vector: " + name.encode()).digest(length)


def build() -> dict[str, list[dict[str, object]]]:
    """Compute every vector with the code as it is."""
    return {
        "site_key_wrap": [_site_key(1, 1), _site_key(2, 7)],
        "metadata_key": [_metadata_key(1), _metadata_key(3)],
        "file_key_wrap": [_file_key(1), _file_key(2), _file_key(2**32 - 1)],
        "site_key_commitment": [_commitment(1), _commitment(9)],
        "tik_fingerprint": [_fingerprint(1), _fingerprint(2)],
        "tik_endorsement": [_endorsement(2)],
        "service_managed_root": [_service("a"), _service("b")],
        "keystore_seal": [_seal()],
    }


def _site_key(tik_generation: int, generation: int) -> dict[str, object]:
    inputs = {
        "tik": fixed("tik", 32),
        "site_key": fixed("site key", 32),
        "policy_id": fixed("policy", 16),
        "site_id": fixed("site", 16),
    }
    wrapped = wrapping.wrap_site_key(
        inputs["tik"],
        inputs["site_key"],
        policy_id=inputs["policy_id"],
        tik_generation=tik_generation,
        site_id=inputs["site_id"],
        generation=generation,
    )
    numbers = {"tik_generation": tik_generation, "generation": generation}
    return _hex(inputs) | numbers | _hex({"wrapped": wrapped})


def _metadata_key(generation: int) -> dict[str, object]:
    inputs = {"site_key": fixed("site key", 32), "site_id": fixed("site", 16)}
    derived = wrapping.derive_metadata_key(inputs["site_key"], site_id=inputs["site_id"])
    wrapped = wrapping.wrap_metadata_key(
        inputs["site_key"], derived, site_id=inputs["site_id"], generation=generation
    )
    outputs = {"metadata_key": derived, "wrapped": wrapped}
    return _hex(inputs) | {"generation": generation} | _hex(outputs)


def _file_key(generation: int) -> dict[str, object]:
    inputs = {
        "site_key": fixed("site key", 32),
        "file_key": fixed("file key", 32),
        "file_id": fixed("file", 16),
        "site_id": fixed("site", 16),
    }
    wrapped = wrapping.wrap_file_key(
        inputs["site_key"],
        inputs["file_key"],
        file_id=inputs["file_id"],
        site_id=inputs["site_id"],
        generation=generation,
    )
    return _hex(inputs) | {"generation": generation} | _hex({"wrapped": wrapped})


def _commitment(generation: int) -> dict[str, object]:
    inputs = {"site_key": fixed("site key", 32), "site_id": fixed("site", 16)}
    made = wrapping.site_key_commitment(
        inputs["site_key"], site_id=inputs["site_id"], generation=generation
    )
    return _hex(inputs) | {"generation": generation} | _hex({"commitment": made})


def _fingerprint(generation: int) -> dict[str, object]:
    inputs = {"tik": fixed("tik", 32), "policy_id": fixed("policy", 16)}
    made = wrapping.tik_fingerprint(
        inputs["tik"], policy_id=inputs["policy_id"], generation=generation
    )
    return _hex(inputs) | {"generation": generation} | _hex({"fingerprint": made})


def _endorsement(generation: int) -> dict[str, object]:
    inputs = {
        "previous_tik": fixed("tik", 32),
        "policy_id": fixed("policy", 16),
        "fingerprint": fixed("fingerprint", 32),
    }
    made = wrapping.endorse_tik(
        inputs["previous_tik"],
        policy_id=inputs["policy_id"],
        generation=generation,
        fingerprint=inputs["fingerprint"],
    )
    return _hex(inputs) | {"generation": generation} | _hex({"endorsement": made})


def _service(name: str) -> dict[str, object]:
    inputs = {
        "master_key": fixed(f"master key {name}", 32),
        "master_id": fixed(f"master id {name}", 16),
        "policy_id": fixed("policy", 16),
    }
    tik = fixed("tik", 32)
    derived = service_managed.derive_policy_key(**inputs)
    wrapped = service_managed.wrap_under(**inputs, key=tik)
    return _hex(inputs | {"tik": tik, "policy_key": derived, "wrapped": wrapped})


def _seal() -> dict[str, object]:
    tik = fixed("tik", 32)
    policy_id, site_id, store_id = (fixed(name, 16) for name in ("policy", "site", "store"))
    created = "2026-01-02T03:04:05.678Z"
    wrap = TikWrap(
        slot="service",
        key_id="service:" + fixed("master id a", 16).hex(),
        algorithm="KBKDF-SHA256+AES-256-SIV",
        wrapped=fixed("wrapped tik", 64),
        created=created,
    )
    site = keystore.SiteRecord(
        site_id=site_id.hex(),
        workload="onedrive",
        policy_id=policy_id.hex(),
        root_directory_id=fixed("directory", 16).hex(),
        created=created,
        site_keys=(
            keystore.SiteKeyGeneration(
                generation=1,
                tik_generation=1,
                wrapped_site_key=fixed("wrapped site key", 48),
                commitment=fixed("commitment", 32),
            ),
        ),
        wrapped_metadata_key=fixed("wrapped metadata key", 48),
    )
    section = keystore.Section(
        sealed_generation=5,
        policy=default_policy(
            policy_id.hex(),
            created=created,
            fingerprint=wrapping.tik_fingerprint(tik, policy_id=policy_id, generation=1),
            wrap=wrap,
        ),
        sites=(site,),
    )
    sealed = keystore.sealed(section, tik, store_id=store_id)
    canonical = keystore.canonical(section).decode()
    inputs = _hex({"tik": tik, "store_id": store_id, "policy_id": policy_id})
    return inputs | {"canonical": canonical, "seal": sealed.seal.hex()}


def _hex(values: dict[str, bytes]) -> dict[str, object]:
    return {name: value.hex() for name, value in values.items()}


if __name__ == "__main__":
    PLACE.write_text(json.dumps(build(), indent=1) + "\n")
