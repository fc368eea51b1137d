"""The facts behind `ckfs-keys status`."""

from __future__ import annotations

import json
import os

from keyhierarchy import keystore as keystores
from keyhierarchy.errors import KeystoreInvalid, RootKeyMissing
from keyhierarchy.servicekeys import service_keys
from keyhierarchy.status import gather


def test_a_good_store(made):
    facts, trouble = gather(made.control, made.state, made.store_id)
    assert trouble is None
    (policy,) = facts["policies"]
    assert (policy["state"], policy["state_number"], policy["opens"]) == ("Unregistered", 0, True)
    (tik,) = policy["tenant_intermediate_keys"]
    assert tik["wraps"][0]["key_id"] == service_keys(made.state).current().key_id
    assert facts["sites"][0]["id"] == made.site_id.hex()
    assert facts["host"]["first_sight"] is False
    assert facts["host"]["audit_records"] == len(made.events())
    assert json.loads(json.dumps(facts)) == facts


def test_it_holds_no_wrapped_key(made):
    facts, _ = gather(made.control, made.state, made.store_id)
    keystore = keystores.load(made.control, made.store_id)
    wrapped = keystore.sections[0].policy.current_tik.wraps[0].wrapped
    assert wrapped.hex() not in json.dumps(facts)


def test_a_missing_root_key_is_told_with_the_rest(made):
    os.rename(made.service_keys, made.folder / "gone")
    facts, trouble = gather(made.control, made.state, made.store_id)
    assert isinstance(trouble, RootKeyMissing)
    assert facts["policies"][0]["opens"] is False
    assert facts["policies"][0]["trouble"].startswith("RootKeyMissing: ")


def test_a_forged_record_is_told_with_the_rest(made):
    document = made.document()
    document["sections"][0]["policy"]["name"] = "forged"
    made.write(document)
    facts, trouble = gather(made.control, made.state, made.store_id)
    assert isinstance(trouble, KeystoreInvalid)
    assert facts["policies"][0]["opens"] is False
