"""HIERARCHY.md section 15 and the code say the same."""

from __future__ import annotations

import ast
import pathlib
import re

from keyhierarchy import administration, leasebook, renewal, revocation
from keyhierarchy.administration import Settings
from keyhierarchy.roots import patience, vault_answers

PACKAGE = pathlib.Path(administration.__file__).parent
SPEC = (PACKAGE / "HIERARCHY.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}.*?(?=^##|\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[0]


def test_every_setting_is_specified_with_its_default():
    text = section("15.1 What the administrator sets")
    rows = dict(re.findall(r"^\| `(\w+)`(?:, `\w+`)? \| ([^|]*) \|", text, re.MULTILINE))
    for name in Settings.__struct_fields__:
        assert f"`{name}`" in text
        value = getattr(Settings(), name)
        if name in rows and isinstance(value, float):
            assert float(rows[name].split(",")[0]) == value, name
    for kind in (administration.Administration, administration.AllowedKey):
        assert all(f"`{name}" in text for name in kind.__struct_fields__)
    for kind in (revocation.Revocations, revocation.Revocation):
        members = section("15.4 Probe and revocation")
        assert all(f"`{name}" in members for name in kind.__struct_fields__)
    assert administration.NAME in text
    assert revocation.NAME in members


def causes_in_the_code() -> set[str]:
    found = {cause for cause, _, _ in vault_answers._FORBIDDEN.values()}
    rooms = [*PACKAGE.glob("*.py"), *(PACKAGE / "roots").glob("*.py")]
    for path in rooms:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            told = [word.value for word in node.keywords if word.arg == "cause"]
            if called in {"refused", "unavailable"} and len(node.args) >= 3:
                told.append(node.args[2])
            if called == "_unfit":
                told.append(node.args[1])
            found |= {
                one.value
                for one in told
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }
    return found


def test_every_cause_is_specified_and_every_specified_cause_exists():
    table = re.findall(r"^\| (`[^|]*) \|", section("15.2 What an answer means"), re.MULTILINE)
    specified = set(re.findall(r"`([a-z-]+)`", " ".join(table)))
    code = causes_in_the_code() | {"malformed-key-id", "revoked-on-host", "untrusted-certificate"}
    assert code | {"unreachable", "timeout"} == specified
    assert specified >= vault_answers.RETRIED


def test_the_numbers_are_specified():
    assert patience.MOST_LEFT_BEHIND == 4
    assert "At most four are" in section("15.2 What an answer means")
    assert renewal._DUE == (0.45, 0.5)
    assert renewal._BACK_OFF_SECONDS == (1, 2, 4, 8, 16)
    assert "45\nto 50 %" in SPEC
    assert len(leasebook.FINAL) == 6
