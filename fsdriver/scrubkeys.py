"""What a scrub checks that is no file: store document, keystore, site records, audit log.

The key hierarchy checks each record when it opens it; here all of them are opened, and its refusals
become findings. That a root key does not answer is no finding of the store's.
"""

import os
from typing import Final

from fsdriver import pendingreplay
from fsdriver.errors import StoreDamaged
from fsdriver.filecheck import kind_of_key
from fsdriver.findings import Finding, Verdict
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore
from fsdriver.store import DOCUMENT, control_folder
from keyhierarchy import errors as keys
from keyhierarchy.audit import AuditLog

_KEYSTORE: Final = f"{CONTROL_FOLDER}/keystore.json"
_KNOWN: Final = frozenset(
    {DOCUMENT, "keystore.json", "keystore.lock", "lock", "journal", "quarantine", "checkpoint"}
)
_FORGED: Final = (keys.AnchorMismatch, keys.AuditChainBroken)
_DAMAGED: Final = (keys.WrappedKeyInvalid, keys.KeystoreInvalid, keys.KeystoreMissing)


def finding_of(error: Exception) -> Finding | None:
    """What keeps a store from being opened, if that is the store's fault."""
    if isinstance(error, StoreDamaged):
        return _finding("damaged", "store-document", f"{CONTROL_FOLDER}/{DOCUMENT}", error)
    if isinstance(error, keys.KeystoreNewer):
        return None
    if isinstance(error, _FORGED):
        return _finding("forged", "keystore", _KEYSTORE, error)
    if isinstance(error, _DAMAGED):
        return _finding("damaged", "keystore", _KEYSTORE, error)
    return None


def check(store: OfflineStore, known: KnownEntries | None) -> list[Finding]:
    """Every site's keys, the journal's age, the audit log, and what lies in the control folder."""
    findings = []
    if pendingreplay.is_rolled_back(store, known):
        findings.append(
            Finding(
                verdict="forged",
                kind="store-rolled-back",
                place=f"{CONTROL_FOLDER}/journal",
                path="",
                message="the journal is older than the newest checkpoint that this host knows: the "
                "whole store was put back to an older state, or its journal was removed",
                remedy="use the newest copy of the store, or accept this one with "
                "`ckfs contentdb rebuild`",
            )
        )
    for record in store.hierarchy.sites():
        try:
            store.sites.open(bytes.fromhex(record.site_id))
        except keys.KeyHierarchyError as error:
            site = f"site {record.site_id}: {error}"
            findings.append(
                finding_of(type(error)(site))
                or _finding("unverified", kind_of_key(error), _KEYSTORE, type(error)(site))
            )
    try:
        AuditLog(store.host_folder, store.store_id).verify()
    except keys.KeyHierarchyError as error:
        verdict: Verdict = "forged" if isinstance(error, keys.AuditChainBroken) else "unverified"
        findings.append(_finding(verdict, "audit-log", "", error))
    findings += _strangers(store)
    return findings


def _strangers(store: OfflineStore) -> list[Finding]:
    """Entries of the control folder that no ckfs of this version makes."""
    return [
        Finding(
            verdict="foreign",
            kind="control-folder",
            place=f"{CONTROL_FOLDER}/{name}",
            path="",
            message="it is none of the files that ckfs keeps here",
            remedy="look at it, and move it away by hand",
        )
        for name in sorted(os.listdir(control_folder(store.path)))
        if name not in _KNOWN and not name.startswith((".keystore.json.", f"{DOCUMENT}.new"))
    ]


def _finding(verdict: Verdict, kind: str, place: str, error: Exception) -> Finding:
    return Finding(verdict=verdict, kind=kind, place=place, path="", message=str(error))
