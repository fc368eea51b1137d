"""Bare HTTPS to a vault, for what the Azure client hides: headers, bodies, wrong requests."""

from dataclasses import dataclass
from typing import Any

import requests

from tests.vault_server import VaultServer

API_VERSION = "2025-07-01"


@dataclass
class Wire:
    server: VaultServer
    vault: str = "kv1"
    principal: str = "client"

    def token(self) -> str:
        port = self.server.running.port
        client = self.server.client(self.principal)
        answer = requests.post(
            f"{self.server.running.authority}/{client.tenant_id}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": client.client_id,
                "client_secret": client.client_secret,
                "scope": f"https://vault.test:{port}/.default",
            },
            verify=self.server.ca_path,
            timeout=10,
        )
        return str(answer.json()["access_token"])

    def call(self, method: str, path: str, *, token: str | None = None, **options: Any) -> Any:
        """`path` without the api-version; a token is fetched unless given, '' sends none."""
        token = self.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        parameters = {"api-version": API_VERSION} | options.pop("params", {})
        return requests.request(
            method,
            f"{self.server.url(self.vault)}{path}",
            headers=headers | options.pop("headers", {}),
            params=parameters,
            verify=self.server.ca_path,
            timeout=10,
            **options,
        )


def inner_code(error: Any) -> str:
    """The inner code of an HttpResponseError of the Azure client."""
    return str(error.error.innererror["code"])
