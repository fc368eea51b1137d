"""A stand-in for Microsoft's unpublished test tools: only what the key tests import.

The tests run "live" against a local vault, so everything about recordings does nothing here. The
names are given by the tests; `AzureRecordedTestCase` makes credentials and clients for them.
"""

import functools
import os
import uuid
from types import SimpleNamespace
from typing import Any


def is_live() -> bool:
    return True


def _nothing(*_arguments: Any, **_keywords: Any) -> None:
    """Sanitizers and matchers belong to recordings."""


add_general_string_sanitizer = _nothing
add_oauth_response_sanitizer = _nothing
remove_batch_sanitizers = _nothing
set_bodiless_matcher = _nothing
set_custom_default_matcher = _nothing


def recorded_by_proxy(test: Any) -> Any:
    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> Any:
        return test(*arguments, **keywords)

    return run


class AzureRecordedTestCase:
    is_live = True

    def get_resource_name(self, name: str) -> str:
        """The same name within one test, another one in the next."""
        # pytest makes an object of the class for each test.
        suffix = self.__dict__.setdefault("_suffix", uuid.uuid4().hex[:8])
        return f"{name}-{suffix}"

    def get_credential(self, _client: Any, *, is_async: bool = False, **options: Any) -> Any:
        if is_async:
            from azure.identity.aio import ClientSecretCredential  # noqa: PLC0415
        else:
            from azure.identity import ClientSecretCredential  # noqa: PLC0415
        return ClientSecretCredential(
            os.environ["AZURE_TENANT_ID"],
            os.environ["AZURE_CLIENT_ID"],
            os.environ["AZURE_CLIENT_SECRET"],
            authority=os.environ["CONFORMANCE_AUTHORITY"],
            connection_verify=os.environ["CONFORMANCE_CA"],
            disable_instance_discovery=True,
            **options,
        )

    def create_client_from_credential(self, client: Any, credential: Any, **options: Any) -> Any:
        options.setdefault("connection_verify", os.environ["CONFORMANCE_CA"])
        # One test looks for its request in the log, so bodies are logged unless it asks for less.
        options.setdefault("logging_enable", True)
        return client(credential=credential, **options)


# Imported by helpers that none of the key tests call.
AzureMgmtPreparer = SimpleNamespace
