"""What ``AzureSettings`` take, refuse and hide, and what the adapters are given of them."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durabletask_azure import (
    ArgumentTypeError,
    AzureSettings,
    ConfigurationError,
    InvalidQueueSizeError,
)
from durabletask_azure.azure_credential import SharedCredential
from durabletask_azure.azure_targets import AzureTargets, targets_of
from durabletask_azure.targets import Proxy

BUS = "Endpoint=sb://orders.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=S3CR3T-BUS="
EMULATOR = "Endpoint=sb://localhost:5673;SharedAccessKeyName=Root;SharedAccessKey=S3CR3T-BUS=;UseDevelopmentEmulator=true;"
STORAGE = "DefaultEndpointsProtocol=https;AccountName=orders;AccountKey=S3CR3T-KEY==;EndpointSuffix=core.windows.net"
SIGNED = (
    "TableEndpoint=https://t.example.com/;BlobEndpoint=https://b.example.com/;AccountName=orders;"
    "SharedAccessSignature=?sv=2024&sig=S3CR3T-SIG"
)


class Credential:
    def get_token(self, *scopes: str) -> object:
        raise AssertionError("nobody asks")


def settings(**options: Any) -> AzureSettings:
    given: dict[str, Any] = {"service_bus": BUS, "storage": STORAGE, "hub": "shop", **options}
    return AzureSettings(**given)


def targets(**options: Any) -> AzureTargets:
    made = settings(**options)
    return targets_of(made, SharedCredential(made.credential))


@pytest.mark.parametrize("size", [1024, 2048, 3072, 4096, 5120])
def test_b121_the_queue_sizes_that_service_bus_has_are_taken(size: int) -> None:
    assert targets(max_queue_size_in_megabytes=size).queues.max_size_mb == size


@pytest.mark.parametrize("size", [0, -1, 1, 1023, 1025, 5119, 6144, 81920, True, 1024.0, "1024", None])
def test_b121_any_other_queue_size_is_refused_when_the_settings_are_made(size: object) -> None:
    with pytest.raises(InvalidQueueSizeError, match="1024, 2048, 3072, 4096 or 5120"):
        settings(max_queue_size_in_megabytes=size)


@pytest.mark.parametrize("hub", ["shop", "a12", "a" * 54])
def test_names_of_hubs_that_suit_queues_tables_and_containers_are_taken(hub: str) -> None:
    names = targets(hub=hub).names
    assert (names.table, names.container) == (hub, f"{hub}-payloads")
    assert (names.orchestrations, names.activities()) == (f"{hub}-orchestrations", f"{hub}-activities")


@pytest.mark.parametrize("hub", ["", "ab", "1shop", "Shop", "my-shop", "shop_1", "a" * 55, "tables", "shöp"])
def test_other_names_of_hubs_are_refused(hub: str) -> None:
    with pytest.raises(ConfigurationError, match="hub must be 3 to 54 lower case letters and digits"):
        settings(hub=hub)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partitions": 0}, "partitions must be from 1 to 128, not 0"),
        ({"partitions": 129}, "partitions must be from 1 to 128"),
        ({"lock_duration_s": 4}, "lock_duration_s must be from 5 to 300"),
        ({"lock_duration_s": float("nan")}, "lock_duration_s must be from 5 to 300"),
        ({"max_delivery_count": 2}, "max_delivery_count must be from 3 to 2000"),
        ({"duplicate_window_s": 1}, "duplicate_window_s must be from 20"),
        ({"time_to_live_s": 10}, "time_to_live_s must be at least 3600"),
        ({"prefetch_max": 0}, "prefetch_max must be from 1"),
        ({"create_if_missing": True, "manage": False}, "create_if_missing needs manage"),
        ({"ca_bundle": "/nowhere/ca.pem"}, "ca_bundle must be a PEM file"),
        ({"proxy": "socks5://x:1"}, "proxy must be http://host:port"),
        ({"proxy": "http://proxy"}, "proxy must be http://host:port"),
        ({"admin_url": "localhost:5300"}, "admin_url must begin with http:// or https://"),
        ({"service_bus_address": "tcp://x:1"}, "service_bus_address must begin with sb://"),
        ({"endpoint_suffix": "https://x"}, "endpoint_suffix must be the name of a host"),
        ({"activity_groups": {"GPU": ["a"]}}, "activity group must be 1 to 40 lower case"),
        ({"activity_groups": {"gpu": ["a"], "big": ["a"]}}, "'a' is in the groups 'gpu' and 'big'"),
        ({"service_bus": ""}, "service_bus must be a connection string, a name or an address"),
        ({"service_bus": "x y"}, "service_bus is neither a connection string nor the name"),
        ({"service_bus": STORAGE}, "looks like one of storage"),
        ({"service_bus": "Endpoint=sb://a"}, "needs either SharedAccessKeyName and SharedAccessKey"),
        (
            {"service_bus": "Endpoint=sb://a;SharedAccessKey=k"},
            "SharedAccessKeyName and SharedAccessKey together",
        ),
        (
            {"service_bus": "Endpoint=http://a;SharedAccessKey=k;SharedAccessKeyName=n"},
            "must begin with sb://",
        ),
        ({"service_bus": f"{BUS};EntityPath=queue"}, "is one queue's"),
        ({"service_bus": "Endpoint=sb://a;rubbish"}, "part 2 of the connection string in service_bus"),
        ({"service_bus": "Endpoint=sb://a;endpoint=sb://b"}, "two parts of the name of part 2"),
        ({"service_bus": f"{BUS};UseDevelopmentEmulator=yes"}, "UseDevelopmentEmulator .* true or false"),
        ({"storage": BUS}, "storage is one of Service Bus"),
        ({"storage": "AccountKey=k"}, "needs AccountName, or TableEndpoint and BlobEndpoint"),
        ({"storage": f"{STORAGE};SharedAccessSignature=s"}, "AccountKey or SharedAccessSignature, not both"),
        ({"storage": "https://a.blob.core.windows.net/?sv=1&sig=S3CR3T"}, "belongs in a connection string"),
    ],
)
def test_values_that_are_not_allowed_are_refused_with_what_is(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        settings(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": 4}, "has no option 'partition'; did you mean partitions"),
        ({"service_bus": 5}, "service_bus must be a string, not int"),
        ({"manage": 1}, "manage must be True or False, not int"),
        ({"partitions": True}, "partitions must be a whole number or None, not bool"),
        (
            {"credential": "key"},
            "credential must be a token credential with a method get_token.., .* not str",
        ),
        ({"activity_groups": {"gpu": "a"}}, "must be a list of one or more names"),
    ],
)
def test_values_of_other_types_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        settings(**options)
    with pytest.raises(ArgumentTypeError, match="AzureSettings needs service_bus, storage"):
        AzureSettings(hub="shop")  # pyright: ignore[reportCallIssue]


def test_a_connection_string_of_service_bus_is_used_as_it_is() -> None:
    bus = targets().service_bus
    assert (bus.namespace, bus.connection_string, bus.credential) == (
        "orders.servicebus.windows.net",
        BUS,
        None,
    )
    assert (bus.is_emulator, bus.admin_url, bus.websockets, bus.proxy) == (False, None, False, None)


def test_an_emulator_of_service_bus_is_administered_on_port_5300_of_its_host() -> None:
    bus = targets(service_bus=EMULATOR).service_bus
    assert (bus.is_emulator, bus.namespace, bus.admin_url) == (
        True,
        "localhost:5673",
        "http://localhost:5300",
    )
    assert (
        targets(service_bus=EMULATOR, admin_url="http://localhost:1").service_bus.admin_url
        == "http://localhost:1"
    )


@pytest.mark.parametrize(
    ("place", "suffix", "namespace"),
    [
        ("orders1", "windows.net", "orders1.servicebus.windows.net"),
        ("orders1", "chinacloudapi.cn", "orders1.servicebus.chinacloudapi.cn"),
        ("orders.servicebus.windows.net", "windows.net", "orders.servicebus.windows.net"),
        ("sb://orders.servicebus.windows.net/", "windows.net", "orders.servicebus.windows.net"),
    ],
)
def test_a_namespace_is_signed_in_to_with_a_credential(place: str, suffix: str, namespace: str) -> None:
    bus = targets(service_bus=place, endpoint_suffix=suffix).service_bus
    assert (bus.namespace, bus.connection_string) == (namespace, None)
    assert isinstance(bus.credential, SharedCredential)


@pytest.mark.parametrize(
    ("place", "account", "table", "blob"),
    [
        (STORAGE, "orders", "https://orders.table.core.windows.net", "https://orders.blob.core.windows.net"),
        (SIGNED, "orders", "https://t.example.com", "https://b.example.com"),
        ("orders", "orders", "https://orders.table.core.windows.net", "https://orders.blob.core.windows.net"),
        (
            "https://orders.blob.core.windows.net/",
            "orders",
            "https://orders.table.core.windows.net",
            "https://orders.blob.core.windows.net",
        ),
        (
            "AccountName=orders;EndpointSuffix=core.chinacloudapi.cn",
            "orders",
            "https://orders.table.core.chinacloudapi.cn",
            "https://orders.blob.core.chinacloudapi.cn",
        ),
        (
            "TableEndpoint=http://127.0.0.1:7/me;BlobEndpoint=http://127.0.0.1:8/me",
            "me",
            "http://127.0.0.1:7/me",
            "http://127.0.0.1:8/me",
        ),
        (
            "UseDevelopmentStorage=true",
            "devstoreaccount1",
            "http://127.0.0.1:10002/devstoreaccount1",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
    ],
)
def test_both_addresses_of_storage_are_known(place: str, account: str, table: str, blob: str) -> None:
    storage = targets(storage=place).storage
    assert (storage.account_name, storage.table_url, storage.blob_url) == (account, table, blob)


def test_storage_is_signed_in_to_by_key_signature_or_credential() -> None:
    with_key, signed, named = (
        targets().storage,
        targets(storage=SIGNED).storage,
        targets(storage="orders").storage,
    )
    assert (with_key.account_key, with_key.sas_token, with_key.credential) == ("S3CR3T-KEY==", None, None)
    assert (signed.account_key, signed.sas_token, signed.credential) == (None, "sv=2024&sig=S3CR3T-SIG", None)
    assert named.account_key is named.sas_token is None
    assert isinstance(named.credential, SharedCredential)


def test_an_address_that_does_not_tell_the_account_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"TableEndpoint=\.\.\.;BlobEndpoint="):
        targets(storage="https://storage.example.com")


def test_a_proxy_takes_service_bus_through_websockets() -> None:
    bus = targets(proxy="http://me:p%40ss@proxy:8080").service_bus
    assert bus.websockets
    assert bus.proxy == Proxy(host="proxy", port=8080, username="me", password="p@ss")


def test_queue_options_are_handed_on() -> None:
    queues = targets(
        lock_duration_s=45,
        max_delivery_count=5,
        duplicate_window_s=None,
        time_to_live_s=7200,
        prefetch_max=7,
        activity_groups={"gpu": ["render"]},
    ).queues
    assert (queues.lock_s, queues.delivery_count_max, queues.duplicate_window_s) == (45, 5, None)
    assert (queues.time_to_live_s, queues.prefetch_max) == (7200, 7)
    assert dict(queues.activity_groups) == {"gpu": ("render",)}


def test_the_lock_lasts_a_minute_on_azure_and_half_of_one_on_an_emulator() -> None:
    assert (targets().queues.lock_s, targets(service_bus=EMULATOR).queues.lock_s) == (60.0, 30.0)


SECRET = settings(proxy="http://me:S3CR3T-PROXY@proxy:8080", credential=Credential())


def formatted(made: AzureSettings) -> str:
    return f"{made.service_bus} {made.storage!r} {made.proxy}"


WAYS_TO_SHOW: list[Callable[[AzureSettings], str]] = [
    repr,
    str,
    formatted,
    lambda made: repr(msgspec.structs.asdict(made)),
    lambda made: repr(msgspec.structs.astuple(made)),
    lambda made: repr([getattr(made, name) for name in made.__struct_fields__]),
    lambda made: repr(copy.deepcopy(made)),
    lambda made: repr(targets_of(made, SharedCredential(made.credential))),
]


@pytest.mark.parametrize("show", WAYS_TO_SHOW)
def test_no_secret_is_shown(show: Callable[[AzureSettings], str]) -> None:
    assert "S3CR3T" not in show(SECRET)
    signed = settings(service_bus="Endpoint=sb://a/;SharedAccessSignature=S3CR3T", storage=SIGNED)
    assert "S3CR3T" not in show(signed)


def test_settings_show_what_is_no_secret() -> None:
    assert "SharedAccessKeyName=Root;SharedAccessKey=***" in repr(SECRET)
    assert "hub='shop'" in repr(SECRET)


def test_settings_and_their_secrets_are_not_pickled() -> None:
    for thing in (SECRET, SECRET.service_bus, SECRET.proxy):
        with pytest.raises(TypeError, match=r"AzureSettings.from_env\(\)"):
            pickle.dumps(thing)
    with pytest.raises(TypeError):
        msgspec.json.encode(SECRET)


@pytest.mark.parametrize(
    "options",
    [
        {"service_bus": f"S3CR3T;{BUS}"},
        {"service_bus": f"{BUS};SharedAccessKey=S3CR3T"},
        {"service_bus": "S3CR3T\x00"},
        {"service_bus": "Endpoint=http://u:S3CR3T@h;SharedAccessKey=S3CR3T;SharedAccessKeyName=n"},
        {"service_bus": "Endpoint=sb://[S3CR3T;SharedAccessKey=k;SharedAccessKeyName=n"},
        {"storage": "https://me:S3CR3T@host.table.core.windows.net"},
        {"storage": "https://host?sig=S3CR3T"},
        {"storage": "AccountKey=S3CR3T"},
        {"proxy": "http://me:S3CR3T@"},
        {"proxy": "http://me:S3CR3T@[bad:1"},
        {"admin_url": "http://me:S3CR3T@host"},
    ],
)
def test_errors_repeat_no_secret(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError) as caught:
        settings(**options)
    assert "S3CR3T" not in "".join(traceback.format_exception(caught.value)).replace(repr(options), "")
    assert "S3CR3T" not in caplog.text


# ------------------------------------------------------------------ environment and file

ENVIRONMENT = {"DURABLETASK_SERVICE_BUS": BUS, "DURABLETASK_STORAGE": STORAGE, "DURABLETASK_HUB": "shop"}


def test_settings_come_from_the_environment() -> None:
    made = AzureSettings.from_env(
        {
            **ENVIRONMENT,
            "PATH": "/bin",
            "DURABLETASK_PARTITIONS": "16",
            "DURABLETASK_CREATE_IF_MISSING": "True",
            "DURABLETASK_LOCK_DURATION_S": "45.5",
            "DURABLETASK_DUPLICATE_WINDOW_S": "none",
            "DURABLETASK_ACTIVITY_GROUPS": '{"gpu": ["render"]}',
            "DURABLETASK_CA_BUNDLE": "",
        }
    )
    assert made == settings(
        partitions=16,
        create_if_missing=True,
        lock_duration_s=45.5,
        duplicate_window_s=None,
        activity_groups={"gpu": ["render"]},
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DURABLETASK_STORAGE": ""}, "DURABLETASK_STORAGE must be set in the environment"),
        ({"DURABLETASK_PARTITION": "4"}, "did you mean DURABLETASK_PARTITIONS"),
        (
            {"DURABLETASK_PARTITIONS": "four"},
            "DURABLETASK_PARTITIONS must be a whole number or None, not 'four'",
        ),
        ({"DURABLETASK_MANAGE": "maybe"}, "DURABLETASK_MANAGE must be True or False"),
        ({"DURABLETASK_ACTIVITY_GROUPS": "{"}, "DURABLETASK_ACTIVITY_GROUPS must be a JSON object of lists"),
    ],
)
def test_wrong_variables_are_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AzureSettings.from_env({**ENVIRONMENT, **variables})


def test_settings_come_from_a_file_and_the_environment_overrides_it(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(
        f'[azure]\nservice_bus = "{BUS}"\nstorage = "{STORAGE}"\nhub = "shop"\npartitions = 8\n'
        'activity_groups = { gpu = ["render"] }\n'
    )
    assert AzureSettings.from_file(file) == settings(partitions=8, activity_groups={"gpu": ["render"]})
    from_both = AzureSettings.from_env({"DURABLETASK_CONFIG": str(file), "DURABLETASK_HUB": "other"})
    assert (from_both.hub, from_both.partitions) == ("other", 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"has no table \[azure\]"),
        ("azure = 5", r"has no table \[azure\]"),
        ("[azure]\nhub = S3CR3T", "is not TOML"),
        ("[azure]\nqueue = 1", "has no option 'queue'"),
        ('[azure]\ncredential = "x"', "has no option 'credential'"),
        ('[azure]\nhub = "shop"', "azure.service_bus and azure.storage must be set"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        AzureSettings.from_file(file)
    assert "S3CR3T" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        AzureSettings.from_file(tmp_path / "none.toml")
