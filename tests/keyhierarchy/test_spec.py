"""HIERARCHY.md and the code say the same."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

from keyhierarchy import (
    anchor,
    audit,
    cli,
    errors,
    hierarchy,
    keystore,
    leasebook,
    statedir,
    wrapping,
)
from keyhierarchy.policy import DataEncryptionPolicy, PolicyState, TikGeneration, TikWrap
from keyhierarchy.roots import availability, service_managed

PACKAGE = pathlib.Path(wrapping.__file__).parent
SPEC = (PACKAGE / "HIERARCHY.md").read_text()
MOUNTS = PACKAGE.parent / "fsdriver" / "incidents.py"
OWN = sorted(
    path for folder in (".", "roots", "lifecycle") for path in (PACKAGE / folder).glob("*.py")
)


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}.*?(?=^#+ |\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[0]


def rows(title: str) -> list[list[str]]:
    lines = re.findall(r"^\|(.*)\|$", section(title), re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_every_label_is_specified_and_every_specified_label_exists():
    modules = (wrapping, audit, service_managed, availability)
    labels = {
        value.decode()
        for module in modules
        for value in vars(module).values()
        if isinstance(value, bytes) and value.startswith(b"ckfs/")
    }
    assert len(labels) == 12
    assert set(re.findall(r"ckfs/v1/[a-z-]+", SPEC)) == labels


@pytest.mark.parametrize(
    "kind",
    [
        keystore.Keystore,
        keystore.Section,
        keystore.SiteRecord,
        keystore.SiteKeyGeneration,
        DataEncryptionPolicy,
        TikGeneration,
        TikWrap,
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_member_of_the_keystore_is_specified(kind):
    named = set(re.findall(r"`(\w+)(?:\[\])?`", section("4. The keystore")))
    assert set(kind.__struct_fields__) <= named


def test_every_member_of_anchor_audit_record_and_master_key_is_specified():
    for title, kind in (
        ("5. The anchor", anchor.Anchor),
        ("5. The anchor", anchor.PolicyPin),
        ("6.1 Records", audit.Record),
        ("6.1 Records", audit.Actor),
        ("9. The state folder", service_managed.MasterKey),
    ):
        missing = set(kind.__struct_fields__) - set(re.findall(r"\w+", section(title)))
        assert missing <= {"format", "lowest_reader"}, kind


def test_every_state_is_specified_with_its_number():
    specified = {(int(row[0]), row[1]) for row in rows("8. States and verbs") if row[0].isdigit()}
    assert specified == {(int(state), state.name) for state in PolicyState}


def test_every_exit_code_is_specified():
    specified = {int(row[0]) for row in rows("10. Exit codes") if row[0].isdigit()}
    assert specified == {0, cli.EXIT_UNEXPECTED, cli.EXIT_USAGE} | {
        code for _, code in cli.EXIT_CODES
    }


def test_what_ends_a_lease_at_once_is_specified():
    table = rows("7.2 What ends a lease")
    at_once = {name for row in table if row[1] == "ends at once" for name in row[0].split(", ")}
    assert at_once == {kind.__name__ for kind in leasebook.FINAL}
    bridged = {name for row in table if "deadline" in row[1] for name in row[0].split(", ")}
    for name in bridged:
        assert not issubclass(getattr(errors, name), leasebook.FINAL)
    assert len(bridged) >= 5


def test_every_event_that_the_code_writes_is_specified():
    specified = set(re.findall(r"`([a-z-]+\.[a-z-]+)`", section("6.1 Records")))
    written = set()
    for path in (*OWN, MOUNTS):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                kinds = (
                    "root|service-key|policy|site|tik|store|site-key|lease|audit|purge|"
                    "availability|keystore"
                )
                if re.fullmatch(rf"({kinds})\.[a-z]+", node.value):
                    written.add(node.value)
    written -= {"audit.log", "audit.head", "audit.lock", "store.json"}
    written -= {"keystore.json", "keystore.lock"}
    assert written == specified - {"audit.log", "audit.head"}


def test_the_lease_and_the_places_are_specified():
    assert hierarchy.DEFAULT_LEASE_SECONDS == 24 * 3600
    assert "24 hours" in section("7.1 Life")
    assert statedir.ENVIRONMENT in section("9. The state folder")


def imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_pure_modules_touch_nothing():
    for name in ("wrapping.py", "policy.py", "transitions.py", "documents.py"):
        reached = imports(PACKAGE / name)
        assert not reached & {"os", "socket", "time", "pathlib", "subprocess", "io"}, name


def test_keys_know_no_event_loop_and_no_filesystem():
    for path in OWN:
        reached = imports(path)
        assert not reached & {"trio", "asyncio", "pyfuse3", "fsdriver"}, path.name
        assert "azure" not in reached or path.name == "azure_vault.py", path.name


def test_modules_keep_to_their_size_and_say_what_they_are_for():
    assert len(OWN) >= 20
    for path in OWN:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path.name
        assert ast.get_docstring(ast.parse(text)), path.name
