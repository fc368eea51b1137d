"""How `ckfs-keys` shows facts: lines for people, JSON for programs. Decides nothing, reads nothing.

All that is shown may come from a store that somebody else wrote, so nothing reaches a terminal
that it might obey or hide.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import typer

if TYPE_CHECKING:
    from keyhierarchy.audit import Record


def shown(text: str) -> str:
    """Return text with everything escaped that a terminal might obey or hide."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )


def print_json(facts: dict[str, Any]) -> None:
    """Print facts for a program."""
    typer.echo(json.dumps(facts, indent=2))


def json_line(record: Record) -> str:
    """Return an audit record as one line of ASCII JSON."""
    return json.dumps(msgspec.to_builtins(record), separators=(",", ":"))


def record_line(record: Record) -> str:
    """Return an audit record as one line for people."""
    facts = {
        "policy": record.policy_id,
        "site": record.site_id,
        "key": record.key_id,
        "generation": record.generation,
    }
    told = " ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
    actor = f"uid={record.actor.uid} pid={record.actor.pid} {record.actor.program}"
    line = f"{record.seq} {record.time} {record.event} {record.outcome} {told} [{actor}]"
    return shown(f"{line} {record.reason}".rstrip())


def print_status(facts: dict[str, Any]) -> None:
    """Print what status.py gathered, for people."""
    lines = [f"store {facts['store_id']}, keystore generation {facts['keystore']['generation']}"]
    for policy in facts["policies"]:
        opens = "keys open" if policy["opens"] else "KEYS DO NOT OPEN"
        lines.append(f"policy {policy['name']} ({policy['id']}): {policy['state']}, {opens}")
        for tik in policy["tenant_intermediate_keys"]:
            lines.append(f"  tenant intermediate key, generation {tik['generation']}")
            lines += [
                "    {slot}: {key_id}, {algorithm}, since {created}".format(**wrap)
                for wrap in tik["wraps"]
            ]
    for site in facts["sites"]:
        generations = ", ".join(str(number) for number in site["site_key_generations"])
        lines.append(f"site {site['id']}: {site['workload']}, site key generations {generations}")
    host = facts["host"]
    seen = f"known here since {host['first_seen']}" if host["first_seen"] else "not yet known here"
    if host["first_sight"]:
        seen += " (FIRST SEEN JUST NOW)"
    lines.append(f"this host: {seen}; {host['audit_records']} audit records")
    typer.echo("\n".join(shown(line) for line in lines))
