"""The TLS material of an installation: its own CA, the server's certificate, and two bad ones.

The CA's private key is not kept: a certificate for another name needs a new installation. The bad
certificates (expired; from a CA that nobody trusts) are for tests of clients.
"""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from keyhierarchy.vault.files import make_private_folder, replace_file

_FOLDER = "tls"
_CA = "ca.pem"
GOOD = "server"
EXPIRED = "expired"
UNTRUSTED = "untrusted"


def ca_path(folder: Path) -> Path:
    """What a client verifies with."""
    return folder / _FOLDER / _CA


def make_certificates(folder: Path, domains: list[str]) -> None:
    target = folder / _FOLDER
    make_private_folder(target)
    names = [f"*.{domain}" for domain in domains] + ["localhost", "127.0.0.1", "::1"]
    ca = trustme.CA(organization_name="ckfs-vault", organization_unit_name="local CA")
    stranger = trustme.CA(organization_name="ckfs-vault", organization_unit_name="unknown CA")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    _save(target, GOOD, ca.issue_cert(*names))
    _save(
        target,
        EXPIRED,
        ca.issue_cert(*names, not_before=yesterday - timedelta(days=30), not_after=yesterday),
    )
    _save(target, UNTRUSTED, stranger.issue_cert(*names))
    replace_file(ca_path(folder), ca.cert_pem.bytes())


def _save(target: Path, name: str, certificate: trustme.LeafCert) -> None:
    replace_file(target / f"{name}.pem", certificate.private_key_and_cert_chain_pem.bytes())


def pem_path(folder: Path, name: str) -> Path:
    return folder / _FOLDER / f"{name}.pem"


def client_context(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_path(folder)))
