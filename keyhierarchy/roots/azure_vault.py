"""A root key in Azure Key Vault or Managed HSM, through Microsoft's own clients.

The only module that imports azure. Wraps with the public key on this host, after asking the service
whether the key may still be used; unwraps in the vault. The client's retries are off and its
time-outs short: patience.py has the deadline, vault_answers.py the meaning of each answer.
"""

from __future__ import annotations

import logging
import secrets
import threading
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

from keyhierarchy import vaultkeyid
from keyhierarchy.errors import KeyHierarchyError, WrappedKeyInvalid
from keyhierarchy.roots import vault_answers
from keyhierarchy.roots.keyfacts import KeyFacts, require_usable
from keyhierarchy.roots.patience import Patience
from keyhierarchy.wrapping import KEY_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials import TokenCredential
    from azure.core.exceptions import AzureError
    from azure.keyvault.keys import KeyClient, KeyVaultKey
    from azure.keyvault.keys.crypto import CryptographyClient

T = TypeVar("T")

# The clients would print their warnings where nobody has set logging up; every failure is raised.
logging.getLogger("azure").addHandler(logging.NullHandler())

DEADLINE_SECONDS = 10.0
CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0
# Microsoft's authority marks these as passing; every other code of its own is a decision.
_PASSING_AT_AUTHORITY = ("AADSTS50033", "AADSTS90024", "AADSTS90033")
_DENIED_BY_AUTHORITY = ("AADSTS", "invalid_client", "unauthorized_client", "invalid_grant")


class _Clients:
    """The clients of one thread."""

    def __init__(self, keys: KeyClient) -> None:
        self.keys = keys
        self.crypto: CryptographyClient | None = None

    def close(self) -> None:
        self.keys.close()
        if self.crypto is not None:
            self.crypto.close()


class AzureVaultRoot:
    """A RootKey over one version of one vault key. Opens no connection before it is asked."""

    def __init__(
        self,
        key_id: str,
        *,
        credential: TokenCredential | Callable[[], TokenCredential] | None = None,
        connection_verify: bool | str = True,
        deadline_seconds: float = DEADLINE_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        patience: Patience | None = None,
    ) -> None:
        self._id = vaultkeyid.parse(key_id)
        self._credential = credential
        self._options: dict[str, Any] = {"connection_verify": connection_verify, "retry_total": 0}
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._patience = patience or Patience(key_id, deadline_seconds=deadline_seconds)
        # Clients that no thread is using: a session must not be shared, and one that a hanging
        # request still holds never comes back.
        self._idle: list[_Clients] = []
        self._public: KeyVaultKey | None = None
        self._lock = threading.Lock()

    @property
    def key_id(self) -> str:
        """The key's id with its version, in lower-case host and version."""
        return self._id.text

    def facts(self) -> KeyFacts:
        """Ask the vault for the key's type, size, dates and recovery level; changes nothing."""
        return self._facts(self._ask("read the attributes", self._get))

    def wrap(self, key: bytes) -> bytes:
        """Wrap 32 bytes with RSA-OAEP-256, on this host, after the vault has vouched for the key.

        The client never asks the service to wrap, so a key that was disabled would go unnoticed.
        """
        if len(key) != KEY_LENGTH:
            raise ValueError(f"a tenant intermediate key has {KEY_LENGTH} bytes, not {len(key)}")
        bundle = self._ask("read the attributes", self._get)
        require_usable(self._facts(bundle))
        return self._wrap_here(bundle, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Let the vault open a wrap. Every failure is told apart where the vault tells it apart."""

        def attempt(clients: _Clients, options: dict[str, Any]) -> bytes:
            from azure.keyvault.keys.crypto import KeyWrapAlgorithm  # noqa: PLC0415

            crypto = self._crypto(clients, options)
            return crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped, **options).key

        return self._ask("unwrap", attempt)

    def probe(self) -> None:
        """Wrap a throw-away value here and let the vault open it."""
        sample = secrets.token_bytes(KEY_LENGTH)
        public = self._public or self._ask("read the attributes", self._get)
        if not secrets.compare_digest(self.unwrap(self._wrap_here(public, sample)), sample):
            raise WrappedKeyInvalid(
                f"{self.key_id} opens to something else than was wrapped; do not use this vault "
                "before its owner has explained it",
                key_id=self.key_id,
                cause="wrong-key",
            )

    def close(self) -> None:
        """Close idle connections. May be called again; the root goes on working."""
        with self._lock:
            idle, self._idle = self._idle, []
        for clients in idle:
            clients.close()

    def __repr__(self) -> str:
        return f"<AzureVaultRoot {self.key_id}>"

    def _get(self, clients: _Clients, options: dict[str, Any]) -> KeyVaultKey:
        bundle = clients.keys.get_key(self._id.name, self._id.version, **options)
        if (bundle.id or "").lower() != self.key_id.lower():
            raise ValueError(f"it was asked for {self.key_id} and answered {bundle.id}")
        self._public = bundle
        return bundle

    def _crypto(self, clients: _Clients, options: dict[str, Any]) -> CryptographyClient:
        """Return this thread's client for unwrapping; it keeps to the version that it was given."""
        if clients.crypto is None:
            from azure.core.exceptions import HttpResponseError  # noqa: PLC0415
            from azure.keyvault.keys.crypto import CryptographyClient  # noqa: PLC0415

            known: KeyVaultKey | str = self.key_id
            try:
                known = self._public or self._get(clients, options)
            except HttpResponseError as error:
                if error.status_code != 403:  # noqa: PLR2004 - Forbidden
                    raise
                # Who may unwrap and not read goes on; the client manages with the id alone.
            clients.crypto = CryptographyClient(known, self._token_source(), **self._options)
        return clients.crypto

    def _wrap_here(self, bundle: KeyVaultKey, key: bytes) -> bytes:
        from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm  # noqa: PLC0415

        # From the public key alone: this client has no way to the network, and no date to check.
        client = CryptographyClient.from_jwk(bundle.key)
        return client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, key).encrypted_key

    def _ask(self, doing: str, request: Callable[[_Clients, dict[str, Any]], T]) -> T:
        def attempt(left: float) -> T:
            from azure.core.exceptions import AzureError  # noqa: PLC0415 - takes 0.2 s to load

            clients = self._take()
            request_id = str(uuid.uuid4())
            options: dict[str, Any] = {
                "connection_timeout": min(self._connect_seconds, left),
                "read_timeout": min(self._read_seconds, left),
                # Ours, so that the vault's log and an error of ours name the same request.
                "request_id": request_id,
            }
            try:
                outcome = request(clients, options)
            except AzureError as error:
                meaning = self._meaning(doing, error, request_id, clients)
                clients.close()
                raise meaning from None
            except ValueError as error:
                clients.close()
                # How the client refuses a challenge that is not that of this vault.
                raise vault_answers.unavailable(
                    self.key_id, doing, "not-a-vault", f"what answers is not this vault: {error}"
                ) from None
            with self._lock:
                self._idle.append(clients)
            return outcome

        return self._patience.call(doing, attempt)

    def _take(self) -> _Clients:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        from azure.keyvault.keys import KeyClient  # noqa: PLC0415

        return _Clients(KeyClient(self._id.vault_url, self._token_source(), **self._options))

    def _token_source(self) -> TokenCredential:
        with self._lock:
            if self._credential is None or callable(self._credential):
                self._credential = (self._credential or default_credential)()
            return self._credential

    def _meaning(
        self, doing: str, error: AzureError, request_id: str, clients: _Clients
    ) -> KeyHierarchyError:
        from azure.core import exceptions as azure_errors  # noqa: PLC0415

        if isinstance(error, azure_errors.ClientAuthenticationError) and not _from_vault(
            error, self._id.host
        ):
            return self._no_token(doing, error)
        if not isinstance(error, azure_errors.HttpResponseError) or error.status_code is None:
            return self._no_answer(doing, error)
        refusal = _refusal(error, request_id)
        if refusal.status == 404 and self._is_deleted(clients):  # noqa: PLR2004 - Not Found
            return vault_answers.deleted(self.key_id, doing)
        return vault_answers.meaning(self.key_id, doing, refusal)

    def _is_deleted(self, clients: _Clients) -> bool:
        """Ask once whether the missing key can be recovered; only a clear no counts as one.

        A purge takes the no for a proof, so a vault that does not let us know is not one.
        """
        from azure.core.exceptions import AzureError, ResourceNotFoundError  # noqa: PLC0415

        try:
            clients.keys.get_deleted_key(self._id.name, connection_timeout=1.0, read_timeout=1.0)
        except ResourceNotFoundError:
            return False
        except AzureError:
            return True
        return True

    def _no_token(self, doing: str, error: AzureError) -> KeyHierarchyError:
        """The authority that issues tokens, or the lack of credentials, is in the way."""
        what = f"no token for this vault: {_first_line(error.message)}"
        text = str(error.message)
        passing = any(code in text for code in _PASSING_AT_AUTHORITY)
        if not passing and any(word in text for word in _DENIED_BY_AUTHORITY):
            return vault_answers.refused(
                self.key_id,
                doing,
                "wrong-credentials",
                what,
                "check AZURE_CLIENT_ID and its secret or certificate, or the managed identity",
            )
        return vault_answers.unavailable(self.key_id, doing, "no-token", what)

    def _no_answer(self, doing: str, error: AzureError) -> KeyHierarchyError:
        from azure.core import exceptions as azure_errors  # noqa: PLC0415

        text = _first_line(error.message)
        slow = (
            azure_errors.ServiceRequestTimeoutError,
            azure_errors.ServiceResponseTimeoutError,
        )
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or "SSLCertVerification" in str(error):
            cause = "untrusted-certificate"
            text = f"its certificate is not to be trusted ({text}); check the CA file and the clock"
        elif isinstance(error, slow):
            cause, text = "timeout", f"it did not answer in time ({text})"
        else:
            cause, text = "unreachable", f"it cannot be reached ({text})"
        return vault_answers.unavailable(self.key_id, doing, cause, text)

    def _facts(self, bundle: KeyVaultKey) -> KeyFacts:
        said = bundle.properties
        modulus = getattr(bundle.key, "n", None) or b""  # an EC key has none
        kind = _word(bundle.key_type)
        return KeyFacts(
            key_id=self.key_id,
            vault_host=self._id.host,
            name=self._id.name,
            version=self._id.version,
            managed_hsm=self._id.managed_hsm,
            key_type=kind,
            hardware=kind.endswith("-HSM"),
            size=int.from_bytes(modulus).bit_length(),
            operations=tuple(_word(one) for one in bundle.key_operations or ()),
            enabled=said.enabled is not False,
            not_before=_seconds(said.not_before),
            expires=_seconds(said.expires_on),
            created=_seconds(said.created_on),
            recovery_level=_word(said.recovery_level or ""),
            recoverable_days=said.recoverable_days,
            tags=dict(said.tags or {}),
        )


def default_credential(*, connection_verify: bool | str = True, **options: Any) -> TokenCredential:
    """Return DefaultAzureCredential: environment, workload or managed identity, command line.

    Its own tries are few and short, because Patience has the last word.
    """
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415

    settings: dict[str, Any] = {
        "connection_verify": connection_verify,
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retry_total": 1,
        "exclude_shared_token_cache_credential": True,
    }
    return DefaultAzureCredential(**(settings | options))


def _refusal(error: Any, request_id: str) -> vault_answers.Refusal:
    body = error.error
    inner = getattr(body, "innererror", None) or {}
    headers = error.response.headers if error.response is not None else {}
    return vault_answers.Refusal(
        status=error.status_code,
        code=getattr(body, "code", None) or "",
        inner=inner.get("code", "") if isinstance(inner, dict) else "",
        text=_first_line(getattr(body, "message", None) or ""),
        retry_after=_number(headers.get("Retry-After")),
        request_id=request_id,
    )


def _from_vault(error: Any, host: str) -> bool:
    """Whether an authentication error is the vault's answer, and not the token authority's."""
    request = getattr(error.response, "request", None)
    url = str(getattr(request, "url", ""))
    return url.lower().startswith((f"https://{host}/", f"https://{host}:443/"))


def _first_line(text: object) -> str:
    shown = next((line.strip() for line in str(text).splitlines() if line.strip()), "")
    return shown[:400]


def _number(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:  # a date: the vault is not known to send one
        return None


def _word(value: Any) -> str:
    """Return the text of what may be an enumeration of the client's, or a word that it lacks."""
    return str(getattr(value, "value", value))


def _seconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp())
