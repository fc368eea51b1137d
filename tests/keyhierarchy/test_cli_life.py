"""The verbs of a policy's life through `ckfs-keys`: both ways to name a key, JSON, confirmation."""

from __future__ import annotations

import json
import re

import pytest

from keyhierarchy import cli, cli_common
from keyhierarchy.errors import RootKeyRefused
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World, key_id

KEYS = ("--primary-uri", PRIMARY, "--secondary-uri", SECONDARY)


@pytest.fixture
def world(place) -> World:
    return World(place, 2)


@pytest.fixture
def run(world, capsys, monkeypatch):
    """Run the command line on a host of fakes: (exit code, standard output, standard error)."""
    monkeypatch.setattr(cli.secrecy, "shut", lambda: None)
    monkeypatch.setattr(cli_common, "rooms_of", lambda *_: world.rooms)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--state-dir", world.place.state, *arguments])
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


@pytest.fixture
def store(world) -> str:
    return world.place.store


def test_register_by_uri_and_show(run, world, store):
    code, out, err = run("policy", "register", store, *KEYS, "--yes")
    assert (code, err) == (0, "")
    assert "was Unregistered and is Registered" in out
    code, out, _ = run("policy", "show", store)
    assert code == 0
    assert PRIMARY in out
    assert out.count("\n  site ") == 2
    code, out, _ = run(
        "policy", "show", store, "--site", world.section.sites[0].site_id[:6], "--json"
    )
    assert json.loads(out)["state"] == "Registered"
    code, out, _ = run("policy", "list", store, "--json")
    assert json.loads(out)["policies"][0]["state_number"] == 2
    world.check()


def test_register_by_vault_name_and_version(run, world, store):
    arguments = []
    for which, vault in (("primary", "one.vault.test"), ("secondary", "two.vault.test")):
        arguments += [f"--{which}-vault", vault, f"--{which}-key", "root"]
        # A GUID with hyphens, as Customer Key writes a version.
        arguments += [f"--{which}-version", "00000000-0000-0000-0000-000000000001"]
    code, out, _ = run("policy", "register", store, *arguments, "--yes", "--json")
    assert code == 0
    assert json.loads(out)["state_after"] == "Registered"
    keys = {wrap.key_id for wrap in world.policy.current_tik.wraps}
    assert {PRIMARY, SECONDARY} <= keys


def test_a_short_vault_name_is_in_the_public_cloud():
    named = cli_common.named_key("primary", None, "contoso", "root", "0" * 32)
    assert named == f"https://contoso.vault.azure.net/keys/root/{'0' * 32}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--primary-vault", "one", "--secondary-uri", SECONDARY),
        ("--primary-uri", PRIMARY, "--primary-key", "root", "--secondary-uri", SECONDARY),
    ],
)
def test_half_a_key_is_a_usage_error(run, world, store, arguments):
    before = world.bytes()
    code, _, err = run("policy", "register", store, *arguments, "--yes")
    assert code == 2
    assert "primary key" in err
    assert world.bytes() == before


CHANGING = [
    ("policy", "register", *KEYS),
    ("policy", "assign", "{site}", "default"),
    ("roll", "primary", "--uri", key_id(2)),
    ("roll", "availability"),
    ("roll", "tik"),
    ("roll", "site-key", "{site}"),
    ("restore", "--reason", "x", *KEYS),
    ("revoke", "--reason", "x"),
    ("revoke", "--undo"),
    ("offboard",),
    ("purge", "request", "--reason", "x", "--contact", "c", "--approver", "bob"),
    ("purge", "approve"),
    ("purge", "execute"),
    ("purge", "cancel"),
    ("restore-backup", "/nowhere"),
]


@pytest.mark.parametrize("command", CHANGING, ids=" ".join)
def test_without_a_terminal_a_change_needs_yes(run, world, store, command):
    before = world.bytes()
    site = world.section.sites[0].site_id
    verb = [command[0]] if command[0] not in {"policy", "roll", "purge"} else list(command[:2])
    rest = [site if one == "{site}" else one for one in command[len(verb) :]]
    code, _, err = run(*verb, store, *rest)
    assert code == 2, err
    assert "--yes" in err
    assert world.bytes() == before


def test_the_whole_life(run, world, store, tmp_path, monkeypatch):
    from keyhierarchy.lifecycle import purging  # noqa: PLC0415

    who = ["alice"]
    monkeypatch.setattr(purging, "account", lambda: who[0])
    world.rooms.waiting = 0.0
    site = world.section.sites[0].site_id

    def ok(*arguments: str) -> str:
        code, out, err = run(*arguments)
        assert code == 0, (arguments, err)
        return out

    assert "round-trip" in ok("policy", "validate", store, *KEYS)
    ok("policy", "register", store, *KEYS, "--yes")
    ok("backup", store, str(tmp_path / "backup"))
    ok("roll", "primary", store, "--uri", key_id(2), "--yes")
    ok("roll", "secondary", store, "--uri", key_id(2, vault="two"), "--yes")
    ok("roll", "availability", store, "--yes")
    ok("roll", "tik", store, "--yes")
    ok("roll", "site-key", store, site[:10], "--yes")
    assert "NEEDED" in ok("keys", "usage", store)
    assert "nothing to resume" in ok("resume", store)
    new = ("--primary-uri", key_id(1, vault="five"), "--secondary-uri", key_id(1, vault="six"))
    ok("restore", store, "--reason", "lost", *new, "--yes")
    ok("revoke", store, "--reason", "theft", "--yes")
    ok("revoke", "--undo", store, "--yes")
    ok("policy", "create", store, "second")
    ok("policy", "assign", store, site[:10], "second", "--yes")
    ok("offboard", store, "--policy", "default", "--yes")
    ok("policy", "register", store, "--policy", "default", *KEYS, "--yes")
    world.check()
    asked = ("--reason", "end", "--contact", "c", "--approver", "bob", "--policy", "default")
    assert "executed after" in ok("purge", "request", store, *asked, "--yes")
    who[0] = "bob"
    ok("purge", "approve", store, "--policy", "default", "--yes")
    assert "approver: bob" in ok("purge", "show", store, "--policy", "default")
    for one in list(world.rooms.keys.values()):
        one.trouble = RootKeyRefused("denied", cause="no-permission")
    assert "SURVIVES" in ok("purge", "execute", store, "--policy", "default", "--dry-run")
    code, _, err = run("purge", "execute", store, "--policy", "default", "--yes")
    assert code == 31
    assert re.search("can survive", err)
    code, _, err = run("purge", "cancel", store, "--policy", "default", "--yes")
    assert code == 30
    assert "destroyed" in err


def test_validation_that_fails_names_rule_and_key(run, world, store):
    world.rooms.odd[SECONDARY] = {"key_type": "EC"}
    code, out, err = run("policy", "validate", store, *KEYS, "--json")
    assert code == 30
    assert "key-type" in err
    failed = [one for one in json.loads(out)["findings"] if one["result"] == "fail"]
    assert [(one["rule"], one["key"]) for one in failed] == [("key-type", SECONDARY)]


def test_settings_of_the_host(run, world):
    code, out, _ = run("vault", "set", "lease_seconds=600", "ca_file=/etc/ca.pem")
    assert code == 0
    assert "lease_seconds = 600.0" in out
    assert "ca_file = /etc/ca.pem" in out
    assert "ca_file = \n" in run("vault", "set", "ca_file=")[1]
    assert run("vault", "set", "nothing=1")[0] == 2
    assert run("vault", "set", "lease_seconds=soon")[0] == 2
    policy = world.policy.id
    assert run("vault", "allow", "--policy", policy, "--slot", "primary", PRIMARY)[0] == 0
    assert PRIMARY in run("vault", "show")[1]
    assert json.loads(run("vault", "show", "--json")[1])["keys"][0]["slot"] == "primary"
    assert run("vault", "disallow", PRIMARY)[0] == 0
    assert PRIMARY not in run("vault", "show")[1]
    assert run("vault", "allow", "--policy", policy, "--slot", "third", PRIMARY)[0] == 2
