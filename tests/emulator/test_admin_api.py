"""The administration API with the SDK's client and by hand; Config.json; durations."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError
from azure.servicebus.management import ServiceBusAdministrationClient
from hypothesis import given
from hypothesis import strategies as st

from durabletask_azure.emulator.config import ConfigError, read_config
from durabletask_azure.emulator.durations import FOREVER, format_duration, parse_duration
from durabletask_azure.emulator.fixture import RunningEmulator

MEGABYTES = [1024, 2048, 3072, 4096, 5120]


class PlainTransport(RequestsTransport):
    """The SDK writes https everywhere; the emulator speaks http as Microsoft's does."""

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        base: Any = super()
        return base.send(request, *args, **options)


@pytest.fixture
def admin(emulator: RunningEmulator) -> Iterator[ServiceBusAdministrationClient]:
    string = emulator.connection_string.replace(f":{emulator.server.port}", f":{emulator.server.admin_port}")
    string = string.replace("UseDevelopmentEmulator=true;", "")
    with ServiceBusAdministrationClient.from_connection_string(string, transport=PlainTransport()) as client:
        yield client


def ask(emulator: RunningEmulator, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a request by hand."""
    url = urlsplit(emulator.admin_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("size", MEGABYTES)
def test_every_size_azure_allows_is_allowed(admin: ServiceBusAdministrationClient, size: int) -> None:
    created = admin.create_queue("sized", max_size_in_megabytes=size)
    admin.delete_queue("sized")
    assert created.max_size_in_megabytes == size


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("max_size_in_megabytes", 1000, "1024 to 5120 megabytes in steps of 1024"),
        ("max_size_in_megabytes", 6144, "1024 to 5120 megabytes"),
        ("lock_duration", timedelta(minutes=6), "5 to 300 seconds"),
        ("lock_duration", timedelta(seconds=1), "5 to 300 seconds"),
        ("max_delivery_count", 0, "1 to 2000 deliveries"),
        ("max_delivery_count", 2001, "1 to 2000 deliveries"),
        ("duplicate_detection_history_time_window", timedelta(seconds=10), "20 to 604800 seconds"),
        ("default_message_time_to_live", timedelta(0), "at least 1"),
        ("auto_delete_on_idle", timedelta(minutes=1), "at least 300"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named_with_what_is(
    admin: ServiceBusAdministrationClient, setting: str, value: object, says: str
) -> None:
    options: dict[str, Any] = {setting: value}
    with pytest.raises(HttpResponseError, match=says) as error:
        admin.create_queue("wrong", **options)
    assert error.value.status_code == 400


def test_a_queue_is_created_once_read_and_deleted(admin: ServiceBusAdministrationClient) -> None:
    created = admin.create_queue("once", lock_duration=timedelta(seconds=30), requires_session=True)
    assert (created.lock_duration, created.requires_session) == (timedelta(seconds=30), True)
    with pytest.raises(ResourceExistsError):
        admin.create_queue("ONCE")
    admin.delete_queue("once")
    with pytest.raises(ResourceNotFoundError):
        admin.get_queue("once")
    with pytest.raises(ResourceNotFoundError):
        admin.delete_queue("once")


def test_many_queues_are_listed_page_by_page(admin: ServiceBusAdministrationClient) -> None:
    names = [f"many{n:03}" for n in range(120)]
    for name in names:
        admin.create_queue(name)
    listed = [queue.name for queue in admin.list_queues()]
    for name in names:
        admin.delete_queue(name)
    assert [name for name in listed if name.startswith("many")] == names


def test_runtime_properties_count_each_state(
    emulator: RunningEmulator, admin: ServiceBusAdministrationClient
) -> None:
    with ServiceBusClient.from_connection_string(emulator.connection_string) as client:
        with client.get_queue_sender("q") as sender:
            sender.send_messages([ServiceBusMessage(f"{n}") for n in range(3)])
            sender.schedule_messages(ServiceBusMessage("later"), datetime.now(UTC) + timedelta(hours=1))
        with client.get_queue_receiver("q") as receiver:
            [message] = receiver.receive_messages(max_wait_time=5)
            receiver.dead_letter_message(message, reason="why")
    properties = admin.get_queue_runtime_properties("q")
    assert properties.active_message_count == 2
    assert properties.scheduled_message_count == 1
    assert properties.dead_letter_message_count == 1
    assert properties.total_message_count == 4
    assert properties.size_in_bytes is not None
    assert properties.size_in_bytes > 0


def test_disabling_a_queue_refuses_senders(
    emulator: RunningEmulator, admin: ServiceBusAdministrationClient
) -> None:
    queue = admin.get_queue("q")
    queue.status = "Disabled"
    admin.update_queue(queue)
    with (
        ServiceBusClient.from_connection_string(emulator.connection_string, retry_total=0) as client,
        client.get_queue_sender("q") as sender,
        pytest.raises(Exception, match="does not take messages"),
    ):
        sender.send_messages(ServiceBusMessage("a"))


def test_health_tells_that_it_is_well(emulator: RunningEmulator) -> None:
    status, body = ask(emulator, "GET", "/health")
    assert status == 200
    assert json.loads(body)["status"] == "healthy"


def test_faults_are_set_listed_and_cleared_over_http(emulator: RunningEmulator) -> None:
    fault = {"kind": "throttle", "operation": "send", "entity": "q", "count": 2}
    assert ask(emulator, "POST", "/faults", json.dumps(fault).encode())[0] == 204
    [waiting] = json.loads(ask(emulator, "GET", "/faults")[1])["faults"]
    assert (waiting["kind"], waiting["count"]) == ("throttle", 2)
    assert ask(emulator, "DELETE", "/faults")[0] == 204
    assert json.loads(ask(emulator, "GET", "/faults")[1]) == {"faults": []}
    status, body = ask(emulator, "POST", "/faults", b'{"kind": "earthquake", "operation": "send"}')
    assert status == 400
    assert b"earthquake" in body


def test_a_restart_asked_for_over_http_cuts_every_connection_and_keeps_the_messages(
    emulator: RunningEmulator,
) -> None:
    with ServiceBusClient.from_connection_string(
        emulator.connection_string, retry_backoff_factor=0.1
    ) as client:
        with (
            client.get_queue_sender("q") as sender,
            client.get_queue_receiver("s", session_id="one") as session,
        ):
            sender.send_messages(ServiceBusMessage("before"))
            before = emulator.server.connections
            assert ask(emulator, "POST", "/restart")[0] == 204
            assert before >= 2
            # The sender's next attempt opens a connection anew; a session goes with the connection it was accepted on.
            sender.send_messages(ServiceBusMessage("after"))
            with pytest.raises(ServiceBusError):
                session.receive_messages(max_wait_time=5)
        with client.get_queue_receiver("s", session_id="one"):
            pass
    assert emulator.counts("q").active == 2
    assert ask(emulator, "GET", "/restart")[0] != 204


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/wrong", b"<not xml", 400),
        ("PUT", "/wrong", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", 400),
        ("PUT", "/wrong", b"<entry/>", 400),
        ("PATCH", "/q", b"", 405),
        ("GET", "/$Resources/queues?$skip=no", b"", 400),
    ],
)
def test_requests_that_are_wrong_are_refused(
    emulator: RunningEmulator, method: str, path: str, body: bytes, status: int
) -> None:
    assert ask(emulator, method, path, body)[0] == status


def test_a_body_that_is_too_large_is_refused_before_it_is_read(emulator: RunningEmulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.server.admin_port), timeout=10) as raw:
        raw.sendall(b"PUT /q HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


@given(st.integers(0, 10**9))
def test_a_duration_comes_back(seconds: int) -> None:
    assert parse_duration(format_duration(float(seconds))) == seconds


def test_the_longest_duration_is_none() -> None:
    assert parse_duration(FOREVER) == float("inf")
    assert format_duration(float("inf")) == FOREVER
    for text in ("", "P", "PT", "1M", "PT1X"):
        with pytest.raises(ValueError, match="no duration"):
            parse_duration(text)


def write(path: Path, queues: list[dict[str, object]], topics: list[dict[str, object]]) -> Path:
    namespace = {"Name": "sbemulatorns", "Queues": queues, "Topics": topics}
    path.write_text(json.dumps({"UserConfig": {"Namespaces": [namespace], "Logging": {"Type": "File"}}}))
    return path


def test_a_config_as_microsoft_writes_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    properties = {
        "DeadLetteringOnMessageExpiration": True,
        "DefaultMessageTimeToLive": "PT1H",
        "DuplicateDetectionHistoryTimeWindow": "PT20S",
        "ForwardDeadLetteredMessagesTo": "",
        "ForwardTo": "",
        "LockDuration": "PT1M",
        "MaxDeliveryCount": 3,
        "RequiresDuplicateDetection": True,
        "RequiresSession": True,
    }
    path = write(
        tmp_path / "Config.json", [{"Name": "queue.1", "Properties": properties}], [{"Name": "topic.1"}]
    )
    [queue] = read_config(path)
    assert (queue.name, queue.ttl_s, queue.lock_s, queue.deliveries_max) == ("queue.1", 3600, 60, 3)
    assert queue.requires_sessions
    assert "topic.1" in caplog.text


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"LockDuration": "PT6M"}, "5 to 300 seconds"),
        ({"LockDuration": "a while"}, "no duration"),
        ({"MaxDeliveryCount": "three"}, "not a Config.json"),
    ],
)
def test_a_config_that_is_wrong_says_where(tmp_path: Path, properties: dict[str, object], says: str) -> None:
    path = write(tmp_path / "Config.json", [{"Name": "q", "Properties": properties}], [])
    with pytest.raises(ConfigError, match=says):
        read_config(path)
