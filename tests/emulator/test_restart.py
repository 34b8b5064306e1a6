"""Persistence: what was acknowledged is there after a restart, also after a kill in the middle of the work."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import ServiceBusError

from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.persistence import Store, StoreError
from durabletask_azure.emulator.server import ServerSettings
from tests.emulator.program import CONFIG, Process

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_everything_that_is_kept_comes_back(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, admin_port=0, persist=str(tmp_path / "broker.db"))
    later = datetime.now(UTC) + timedelta(hours=1)
    with RunningEmulator(settings) as emulator:
        emulator.create_queue("q", detects_duplicates=True, deliveries_max=5)
        emulator.create_queue("s", requires_sessions=True)
        with ServiceBusClient.from_connection_string(emulator.connection_string) as client:
            with client.get_queue_sender("q") as sender:
                sender.send_messages([ServiceBusMessage(f"{n}", message_id=f"m{n}") for n in range(5)])
                sender.schedule_messages(ServiceBusMessage("later", message_id="later"), later)
            with client.get_queue_sender("s") as sender:
                sender.send_messages(ServiceBusMessage("in session", session_id="one"))
            with client.get_queue_receiver("q") as receiver:
                done, again, dead, aside = receiver.receive_messages(max_message_count=4, max_wait_time=5)
                receiver.complete_message(done)
                receiver.abandon_message(again)
                receiver.dead_letter_message(dead, reason="why")
                receiver.defer_message(aside)
                number = aside.sequence_number
            with client.get_queue_receiver("s", session_id="one") as session:
                session.session.set_state("state")
        emulator.restart()
        with ServiceBusClient.from_connection_string(emulator.connection_string) as client:
            with client.get_queue_sender("q") as sender:
                sender.send_messages(ServiceBusMessage("duplicate", message_id="m0"))
            with client.get_queue_receiver("q") as receiver:
                messages = receiver.receive_messages(max_message_count=5, max_wait_time=5)
                assert [str(message) for message in messages] == ["1", "4"]
                assert [message.delivery_count for message in messages] == [1, 0]
                assert number is not None
                assert [str(message) for message in receiver.receive_deferred_messages(number)] == ["3"]
            with client.get_queue_receiver("q", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
                [message] = receiver.receive_messages(max_wait_time=5)
                assert (str(message), message.dead_letter_reason) == ("2", "why")
            with client.get_queue_receiver("s", session_id="one") as session:
                assert session.session.get_state() == b"state"
                assert [str(message) for message in session.receive_messages(max_wait_time=5)] == [
                    "in session"
                ]
        assert emulator.counts("q").scheduled == 1


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, admin_port=0, persist=str(tmp_path / "broker.db"))
    numbers: list[int | None] = []
    with RunningEmulator(settings) as emulator:
        emulator.create_queue("q")
        for _ in range(2):
            with ServiceBusClient.from_connection_string(emulator.connection_string) as client:
                with client.get_queue_sender("q") as sender:
                    sender.send_messages(ServiceBusMessage("a"))
                with client.get_queue_receiver("q") as receiver:
                    [message] = receiver.receive_messages(max_wait_time=5)
                    numbers.append(message.sequence_number)
                    receiver.complete_message(message)
            emulator.restart()
    assert numbers == [1, 2]


def test_a_deleted_queue_stays_deleted(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, admin_port=0, persist=str(tmp_path / "broker.db"))
    with RunningEmulator(settings) as emulator:
        emulator.create_queue("q")
        emulator.create_queue("kept")
        emulator.delete_queue("q")
        emulator.restart()
        names = emulator.call(
            lambda server: [entry.queue.settings.name for entry in server.namespace.entries()]
        )
    assert names == ["kept"]


def test_a_deleted_queue_takes_no_dead_letters_of_one_with_a_similar_name_along(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, admin_port=0, persist=str(tmp_path / "broker.db"))
    with RunningEmulator(settings) as emulator:
        emulator.create_queue("a_b")
        emulator.create_queue("axb")
        with ServiceBusClient.from_connection_string(emulator.connection_string) as client:
            with client.get_queue_sender("axb") as sender:
                sender.send_messages(ServiceBusMessage("kept"))
            with client.get_queue_receiver("axb") as receiver:
                [message] = receiver.receive_messages(max_wait_time=5)
                receiver.dead_letter_message(message)

        emulator.delete_queue("a_b")
        emulator.restart()

        assert emulator.counts("axb").dead_letters == 1


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    path.write_text("not a database, but long enough to look like something" * 50)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.timeout(300)
def test_a_kill_under_load_loses_nothing_acknowledged_and_brings_nothing_back(tmp_path: Path) -> None:
    config = tmp_path / "Config.json"
    config.write_text(CONFIG)
    options = ["--admin-port", "0", "--config", str(config), "--persist", str(tmp_path / "broker.db")]
    sent: set[str] = set()
    completed: set[str] = set()
    unsure: set[str] = set()
    port = 0
    for round_ in range(3):
        emulator = Process("--port", str(port), *options)
        port = emulator.port
        stopped = threading.Event()
        threads = [
            threading.Thread(target=send, args=(emulator.connection_string, f"{round_}-{n}", sent, stopped))
            for n in range(2)
        ]
        threads.append(
            threading.Thread(target=complete, args=(emulator.connection_string, completed, unsure, stopped))
        )
        for thread in threads:
            thread.start()
        goal = len(sent) + 150
        while len(sent) < goal:
            stopped.wait(0.05)
        emulator.end(signal.SIGKILL)
        stopped.set()
        for thread in threads:
            thread.join()
    emulator = Process("--port", str(port), *options)
    try:
        left = peek_all(emulator.connection_string)
    finally:
        assert emulator.end(signal.SIGTERM) == 0
    assert len(sent) >= 450
    assert sent - completed - unsure - left == set(), "acknowledged, yet lost"
    assert completed & left == set(), "completed, yet back"
    print(f"{len(sent)} sent, {len(completed)} completed, {len(left)} left after 3 kills")


def send(connection_string: str, name: str, sent: set[str], stopped: threading.Event) -> None:
    """Send until the emulator is gone; note what was acknowledged."""
    number = 0
    with ServiceBusClient.from_connection_string(connection_string, retry_total=0) as client:
        try:
            with client.get_queue_sender("load") as sender:
                while not stopped.is_set():
                    number += 1
                    body = f"{name}-{number}"
                    sender.send_messages(ServiceBusMessage(body), timeout=5)
                    sent.add(body)
        except (ServiceBusError, OSError):
            return


def complete(connection_string: str, completed: set[str], unsure: set[str], stopped: threading.Event) -> None:
    """Receive and complete until the emulator is gone; a completion without an answer may have been done."""
    with ServiceBusClient.from_connection_string(connection_string, retry_total=0) as client:
        try:
            with client.get_queue_receiver("load", prefetch_count=20) as receiver:
                while not stopped.is_set():
                    for message in receiver.receive_messages(max_message_count=1, max_wait_time=1):
                        unsure.add(str(message))
                        receiver.complete_message(message)
                        completed.add(str(message))
                        unsure.discard(str(message))
        except (ServiceBusError, OSError, ValueError):
            return


def peek_all(connection_string: str) -> set[str]:
    """Return what is in the queue."""
    left: set[str] = set()
    with (
        ServiceBusClient.from_connection_string(connection_string) as client,
        client.get_queue_receiver("load") as receiver,
    ):
        while messages := receiver.peek_messages(max_message_count=200):
            left.update(str(message) for message in messages)
    return left
