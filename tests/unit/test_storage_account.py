"""How the storage account is connected to, and its errors in this package's terms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError

from durabletask_azure.adapters.storage import client_options, credential_of, error_code, translated
from durabletask_azure.errors import ConfigurationError, HubUnavailableError, ThrottledError
from durabletask_azure.settings import Settings
from durabletask_azure.targets import Proxy, StorageTarget

ORDERS = StorageTarget(
    account_name="orders",
    table_url="https://orders.table.core.windows.net",
    blob_url="https://orders.blob.core.windows.net",
    account_key="a2V5",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
Options = Callable[[StorageTarget], dict[str, Any]]


@pytest.fixture
async def options(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Options]:
    """Make options, without proxies of this machine, and close what they open."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made: list[dict[str, Any]] = []

    def make(target: StorageTarget) -> dict[str, Any]:
        made.append(client_options(target, Settings(storage_connect_s=3.0, storage_read_s=4.0)))
        return made[-1]

    yield make
    for each in made:
        await each["transport"].close()


def refused(status: int, **headers: str) -> HttpResponseError:
    """Return an error as the SDK raises it for a response."""
    error = HttpResponseError("no")
    error.status_code = status

    class Response:
        content = b""

        def __init__(self) -> None:
            self.headers = headers

    error.response = Response()  # pyright: ignore[reportAttributeAccessIssue]
    return error


def test_a_target_is_signed_in_to_with_what_it_has() -> None:
    assert isinstance(credential_of(ORDERS), AzureNamedKeyCredential)
    signed = credential_of(replace(ORDERS, account_key=None, sas_token="?sv=1&sig=x"))
    assert isinstance(signed, AzureSasCredential)
    assert signed.signature == "sv=1&sig=x"
    token = object()
    assert credential_of(replace(ORDERS, account_key=None, credential=token)) is token
    with pytest.raises(ConfigurationError, match="'orders' needs an account key"):
        credential_of(replace(ORDERS, account_key=None))


async def test_the_sdk_tries_nothing_again_and_waits_as_the_settings_say(options: Options) -> None:
    made = options(ORDERS)

    assert {made[f"retry_{kind}"] for kind in ("total", "connect", "read", "status")} == {0}
    assert made["transport"].connection_config.timeout == 3.0
    assert made["transport"].connection_config.read_timeout == 4.0
    assert "proxies" not in made
    assert not made["transport"].session.trust_env


async def test_a_proxy_is_for_both_services_with_its_password_escaped(options: Options) -> None:
    proxy = Proxy(host="::1", port=3128, username="me@x", password="p/w:d")

    made = options(replace(ORDERS, proxy=proxy))

    assert made["proxies"] == dict.fromkeys(
        (ORDERS.table_url, ORDERS.blob_url), "http://me%40x:p%2Fw%3Ad@[::1]:3128"
    )


async def test_the_proxy_of_the_environment_is_used_unless_a_host_is_left_out(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "orders.blob.core.windows.net")

    assert options(ORDERS)["proxies"] == {ORDERS.table_url: "http://proxy:3128"}
    own = replace(ORDERS, proxy=Proxy(host="own", port=1))
    assert set(options(own)["proxies"].values()) == {"http://own:1"}


async def test_a_file_of_certificates_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, text in (("missing", None), ("wrong", "no certificate")):
        path = tmp_path / f"{name}.pem"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigurationError, match=rf"ca_bundle must be a PEM file.*{name}\.pem"):
            client_options(replace(ORDERS, ca_bundle=str(path)), Settings())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "Tue, 24 Nov 2026 12:00:00 GMT"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1e9"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_account_is_throttling(status: int, headers: dict[str, str], seconds: float | None) -> None:
    error = translated(refused(status, **headers), "reading table 't'", ORDERS)

    assert isinstance(error, ThrottledError)
    assert (None if error.retry_after is None else error.retry_after.total_seconds()) == seconds


@pytest.mark.parametrize("error", [refused(401), refused(403), ClientAuthenticationError("no")])
def test_refused_credentials_say_what_to_check(error: HttpResponseError) -> None:
    made = translated(error, "reading table 't'", ORDERS)

    assert isinstance(made, HubUnavailableError)
    text = str(made)
    assert "reading table 't' of the storage account 'orders'" in text
    assert "Storage Table Data Contributor" in text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (refused(404), "does not exist"),
        (refused(500, **{"x-ms-error-code": "OperationTimedOut"}), "it failed (500, OperationTimedOut)"),
        (ServiceRequestError("Cannot connect"), "no answer: Cannot connect"),
    ],
)
def test_everything_else_is_an_account_out_of_reach(error: Exception, text: str) -> None:
    made = translated(error, "reading table 't'", ORDERS)  # pyright: ignore[reportArgumentType]

    assert isinstance(made, HubUnavailableError)
    assert text in str(made)


def test_no_secret_is_in_an_error_or_its_cause() -> None:
    secrets = ("KEYKEYKEY", "SIGSIGSIG", "PASSWORD")
    target = replace(
        ORDERS,
        account_key=secrets[0],
        sas_token=f"sv=1&sig={secrets[1]}",
        proxy=Proxy(host="h", port=1, password=secrets[2]),
    )
    cause = ValueError(f"https://orders/?sv=1&sig={secrets[1]}")
    error = ServiceRequestError(
        f"cannot reach {secrets[0]} {secrets[2]} https://orders/?sv=1&sig={secrets[1]}"
    )
    error.__cause__ = cause

    made = translated(error, "reading table 't'", target)

    assert isinstance(made, HubUnavailableError)
    assert not any(secret in str(made) for secret in secrets)
    assert secrets[1] not in f"{error!r} {error.message}"
    assert error.__cause__ is None


def test_the_services_name_of_an_error_is_found_wherever_it_is() -> None:
    in_body = refused(404)
    in_body.response.content = b'{"odata.error":{"code":"TableNotFound","message":{"value":"no"}}}'  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    assert error_code(in_body) == "TableNotFound"
    assert error_code(refused(404, **{"x-ms-error-code": "ContainerNotFound"})) == "ContainerNotFound"
    assert error_code(refused(500)) == "HttpResponseError"
