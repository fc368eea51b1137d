"""No object that lives in a driver shows the key that it holds, in print or in a pickle."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fsdriver.format import filekeys
from keyhierarchy.opening import Tiks
from keyhierarchy.vault.documents import ImportKey, KeyOperation, parse_body
from keyhierarchy.vault.records import KeyRecord, KeyVersion
from tests.secrets.searching import HALF, forms, found

KEY = bytes(range(100, 132))

# A driver at work in a process of its own: what lives in it belongs to nobody else. The known keys
# are kept as digests, or the search would find itself.
_PROGRAM = """
import gc, hashlib, json, os, pickle, sys
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/tests/filesystem"]
from driver import Driver
from pathlib import Path
from tests.secrets.searching import found, keys_of

driver = Driver(sys.argv[1])
for name in ("one", "two"):
    driver.write_file(name, bytes(range(256)) * 64)
driver.reopen()
for name in ("one", "two"):
    driver.fs.read(driver.fs.open(driver.number(name), os.O_RDWR), 0, 100)
backing = {name: Path(driver.backing_path(name)) for name in ("one", "two")}
keys = keys_of(Path(driver.store), Path(driver.state_dir), backing).by_name
digests = {hashlib.sha256(key).digest(): name for name, key in keys.items()}
seen, shown, pickled, bare, holders = [], [], [], [], set()
for one in gc.get_objects():
    kind = type(one)
    ours = kind.__module__.startswith(("fsdriver", "keyhierarchy"))
    if kind in (dict, list, tuple, set) and one is not keys:
        values = one.values() if kind is dict else one
        for value in list(values):
            if type(value) is bytes and hashlib.sha256(value).digest() in digests:
                bare.append((digests[hashlib.sha256(value).digest()], kind.__name__))
    if not ours or isinstance(one, type):
        continue
    seen.append(f"{kind.__module__}.{kind.__qualname__}")
    for referent in gc.get_referents(one):
        if type(referent) is bytes and hashlib.sha256(referent).digest() in digests:
            holders.add(kind.__qualname__)
    for text in (repr(one), str(one), format(one) if kind.__format__ is object.__format__ else ""):
        if found(keys, text.encode("utf-8", "replace")):
            shown.append(kind.__qualname__)
    try:
        made = pickle.dumps(one)
    except Exception:
        continue
    if found(keys, made):
        pickled.append(kind.__qualname__)
answer = dict(seen=seen, shown=shown, pickled=pickled, holders=holders, keys=keys)
print(json.dumps({"bare": bare, **{name: sorted(set(what)) for name, what in answer.items()}}))
"""


def test_nothing_that_lives_in_a_driver_shows_its_key(tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, tmp_path, root],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["shown"] == []
    assert answer["pickled"] == []
    assert answer["bare"] == [], "a key lies in a container that prints it"
    # The walk must have come by those that hold keys, or it says nothing.
    assert {"SiteLease", "FileKeys", "Tiks"} <= set(answer["holders"])
    assert {"fsdriver.sealedfile.SealedFile", "keyhierarchy.wrapping.FileKeyWrapper"} <= set(
        answer["seen"]
    )
    assert len(answer["keys"]) >= 10


def vault_objects():
    body = json.dumps({"key": {"kty": "oct", "k": "ZGVm" * 8}}).encode()
    operation = json.dumps({"alg": "A256KW", "value": "ZGVm" * 8}).encode()
    version = KeyVersion("0" * 32, "oct", KEY, [], 0, 0)
    yield version
    yield KeyRecord("name", [version])
    yield parse_body(body, ImportKey)
    yield parse_body(operation, KeyOperation)
    yield filekeys.derive(KEY, bytes(16))
    yield Tiks({1: KEY})


@pytest.mark.parametrize("holder", list(vault_objects()), ids=lambda one: type(one).__name__)
def test_what_holds_a_key_prints_without_it(holder):
    secrets = {"key": KEY, "imported": b"def" * 12}
    if isinstance(holder, filekeys.FileKeys):
        secrets |= {"header": holder.header_key, "chunk": holder.chunk_key}
    for text in (repr(holder), str(holder), f"{holder}", f"{holder!a}"):
        assert not found(secrets, text.encode())
        assert "ZGVm" * 4 not in text


def test_the_search_finds_a_key_in_every_shape():
    shapes = [
        KEY,
        repr(KEY).encode(),
        repr(bytearray(KEY)).encode(),
        repr(list(KEY)).encode(),
        KEY.hex().encode(),
        KEY.hex().upper().encode(),
        json.dumps({"k": KEY.hex()}).encode(),
        *(
            base64.b64encode(b"x" * before + KEY + b"y" * after)
            for before in range(4)
            for after in range(4)
        ),
        *(base64.urlsafe_b64encode(b"x" * before + KEY) for before in range(4)),
    ]
    for shape in shapes:
        assert found({"it": KEY}, b"before " + shape + b" after") == ["it"], shape
    assert found({"it": KEY}, b"nothing" * 100) == []
    assert min(len(form) for form in forms(KEY)) >= HALF
