"""Lets `NAME.vault.test` lead to this machine, inside one process, without editing any file.

The domain `.test` is reserved and no DNS knows it. `local_names()` (or `install()`) answers for the
given domains in `socket.getaddrinfo` and leaves every other name alone; from a shell,

    python -m keyhierarchy.vault.resolve MODULE ARGUMENT ...

runs a Python program that way, for example a demo of a program that talks to a local vault.
A production site gives the vaults real names in its DNS (`ckfs-vault init --domain`) instead.

The client also has to trust the installation's CA, DIR/tls/ca.pem. KeyClient, CryptographyClient
and azure-identity's credentials take `connection_verify=CA`. Programs that cannot be told read it
from REQUESTS_CA_BUNDLE, asynchronous clients from SSL_CERT_FILE; `ckfs-vault env DIR` prints both.

The credential needs AZURE_AUTHORITY_HOST (or `authority=`), and `disable_instance_discovery=True`,
because msal would ask Microsoft about an authority that it does not know. For a program that cannot
be told that either, set AZURE_TENANT_ID=adfs: msal then leaves the question out, and the server
knows that word.
"""

import runpy
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DOMAINS = ("vault.test", "managedhsm.test")
LOOPBACK = "127.0.0.1"


@contextmanager
def local_names(address: str = LOOPBACK, domains: tuple[str, ...] = DOMAINS) -> Iterator[None]:
    """As `install`, for the length of a with block."""
    original = socket.getaddrinfo
    install(address, domains)
    try:
        yield
    finally:
        socket.getaddrinfo = original


def install(address: str = LOOPBACK, domains: tuple[str, ...] = DOMAINS) -> None:
    """Answers names below `domains` with `address` from now on, in this process."""
    original = socket.getaddrinfo
    suffixes = tuple(f".{domain}" for domain in domains)

    def getaddrinfo(host: Any, *arguments: Any, **keywords: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if isinstance(name, str) and name.lower().rstrip(".").endswith(suffixes):
            host = address
        return original(host, *arguments, **keywords)

    socket.getaddrinfo = getaddrinfo


def main() -> None:
    if len(sys.argv) < 2:  # noqa: PLR2004 - the program's own name and a module
        sys.exit("usage: python -m keyhierarchy.vault.resolve MODULE [ARGUMENT ...]")
    install()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
