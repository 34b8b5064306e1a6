"""What the SDK's own tests do not show, with the SDK: order, cuts, slow receivers, faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusReceiver
from azure.servicebus.aio import ServiceBusClient as AsyncClient
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessagingEntityDisabledError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusError,
    ServiceBusServerBusyError,
    SessionCannotBeLockedError,
)

from durabletask_azure.emulator.broker.settings import Policy
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.faults import Fault, FaultKind, Operation
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings

# The SDK leaves sockets of connections that were cut to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SENDERS = 4
EACH = 25


@pytest.fixture
def client(emulator: RunningEmulator) -> Iterator[ServiceBusClient]:
    with ServiceBusClient.from_connection_string(emulator.connection_string, retry_total=0) as client:
        yield client


def drain(receiver: ServiceBusReceiver, count: int) -> list[str]:
    """Receive and complete so many messages."""
    bodies: list[str] = []
    while len(bodies) < count:
        for message in receiver.receive_messages(max_message_count=1, max_wait_time=20):
            bodies.append(str(message))
            receiver.complete_message(message)
    return bodies


def test_each_senders_order_is_kept_in_a_session(emulator: RunningEmulator, client: ServiceBusClient) -> None:
    def send(name: int) -> None:
        with client.get_queue_sender("s") as sender:
            for n in range(EACH):
                sender.send_messages(ServiceBusMessage(f"{name}:{n}", session_id="one"))

    threads = [threading.Thread(target=send, args=(name,)) for name in range(SENDERS)]
    for thread in threads:
        thread.start()
    with client.get_queue_receiver("s", session_id="one", prefetch_count=50) as receiver:
        bodies = drain(receiver, SENDERS * EACH)
    for thread in threads:
        thread.join()
    for name in range(SENDERS):
        mine = [body for body in bodies if body.startswith(f"{name}:")]
        assert mine == [f"{name}:{n}" for n in range(EACH)]
    assert emulator.counts("s").active == 0


async def test_the_async_client_sends_receives_and_settles(emulator: RunningEmulator) -> None:
    async with AsyncClient.from_connection_string(emulator.connection_string) as client:
        async with client.get_queue_sender("s") as sender:
            await sender.send_messages([ServiceBusMessage(f"{n}", session_id="a") for n in range(3)])
        async with client.get_queue_receiver("s", session_id=NEXT_AVAILABLE_SESSION) as receiver:
            messages = await receiver.receive_messages(max_message_count=3, max_wait_time=5)
            for message in messages:
                await receiver.complete_message(message)
    assert [str(message) for message in messages] == ["0", "1", "2"]
    assert emulator.counts("s").active == 0


def test_a_cut_connection_frees_its_session_at_once(
    emulator: RunningEmulator, client: ServiceBusClient
) -> None:
    with client.get_queue_sender("s") as sender:
        sender.send_messages(ServiceBusMessage("a", session_id="one"))
    first = client.get_queue_receiver("s", session_id="one")
    with first:
        assert len(first.receive_messages(max_wait_time=5)) == 1
        with pytest.raises(SessionCannotBeLockedError), client.get_queue_receiver("s", session_id="one"):
            pass
        emulator.cut_connections()
        with client.get_queue_receiver("s", session_id="one") as second:
            [message] = second.receive_messages(max_wait_time=5)
            assert message.delivery_count == 0
            second.complete_message(message)


def test_a_cut_connection_leaves_single_messages_locked(
    emulator: RunningEmulator, client: ServiceBusClient
) -> None:
    with client.get_queue_sender("q") as sender:
        sender.send_messages(ServiceBusMessage("a"))
    with client.get_queue_receiver("q") as receiver:
        assert len(receiver.receive_messages(max_wait_time=5)) == 1
        emulator.cut_connections()
    with client.get_queue_receiver("q") as receiver:
        assert receiver.receive_messages(max_wait_time=1) == []


def test_a_slow_receiver_gets_what_it_asked_for_and_no_more(
    emulator: RunningEmulator, client: ServiceBusClient
) -> None:
    with client.get_queue_sender("q") as sender:
        sender.send_messages([ServiceBusMessage(f"{n}") for n in range(100)])
    with client.get_queue_receiver("q", prefetch_count=10) as slow:
        [first] = slow.receive_messages(max_wait_time=5)
        # The others are with nobody, so another receiver gets them at once.
        with client.get_queue_receiver("q", prefetch_count=50) as quick:
            assert len(drain(quick, 80)) == 80
        slow.complete_message(first)
        assert emulator.counts("q").active == 19


def test_throttling_is_told_as_such(emulator: RunningEmulator, client: ServiceBusClient) -> None:
    emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.SEND, "q"))
    with client.get_queue_sender("q") as sender:
        with pytest.raises(ServiceBusServerBusyError, match="50009"):
            sender.send_messages(ServiceBusMessage("a"))
        sender.send_messages(ServiceBusMessage("b"))
    assert emulator.counts("q").active == 1


def test_a_swallowed_reply_leaves_the_message_sent(
    emulator: RunningEmulator, client: ServiceBusClient
) -> None:
    emulator.add_fault(Fault(FaultKind.SWALLOW_REPLY, Operation.SEND, "q"))
    with client.get_queue_sender("q") as sender, pytest.raises(OperationTimeoutError):
        sender.send_messages(ServiceBusMessage("a"), timeout=1)
    assert emulator.counts("q").active == 1


def test_a_dropped_link_or_connection_is_opened_again(emulator: RunningEmulator) -> None:
    with ServiceBusClient.from_connection_string(
        emulator.connection_string, retry_backoff_factor=0.1
    ) as client:
        for kind in (FaultKind.DROP_LINK, FaultKind.DROP_CONNECTION):
            emulator.add_fault(Fault(kind, Operation.SEND, "q"))
            with client.get_queue_sender("q") as sender:
                sender.send_messages(ServiceBusMessage(kind.value))
    assert emulator.counts("q").active == 2


def test_a_delay_delays_and_a_refusal_refuses(emulator: RunningEmulator, client: ServiceBusClient) -> None:
    emulator.add_fault(Fault(FaultKind.DELAY, Operation.SEND, "q", seconds=0.3))
    emulator.add_fault(
        Fault(FaultKind.REFUSE, Operation.SEND, "q", skip=0, condition="com.microsoft:entity-disabled")
    )
    with client.get_queue_sender("q") as sender:
        sender.send_messages(ServiceBusMessage("late"))
        with pytest.raises(MessagingEntityDisabledError):
            sender.send_messages(ServiceBusMessage("refused"))
    assert emulator.counts("q").active == 1


def test_settling_and_management_fail_on_request(emulator: RunningEmulator, client: ServiceBusClient) -> None:
    with client.get_queue_sender("q") as sender:
        sender.send_messages(ServiceBusMessage("a"))
    emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.MANAGE, "q"))
    emulator.add_fault(
        Fault(FaultKind.REFUSE, Operation.SETTLE, "q", condition="com.microsoft:message-lock-lost")
    )
    with client.get_queue_receiver("q") as receiver:
        with pytest.raises(ServiceBusServerBusyError):
            receiver.peek_messages()
        [message] = receiver.receive_messages(max_wait_time=5)
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(message)
    assert emulator.counts("q").active == 1


def test_an_attach_can_be_refused(emulator: RunningEmulator, client: ServiceBusClient) -> None:
    emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.ATTACH, "s"))
    with pytest.raises(ServiceBusServerBusyError), client.get_queue_sender("s"):
        pass
    with client.get_queue_sender("s"):
        pass


def test_a_key_is_checked_if_there_is_one() -> None:
    credentials = Credentials({"policy": Policy("policy", "right")})
    with RunningEmulator(ServerSettings(port=0, admin_port=0, credentials=credentials)) as emulator:
        emulator.create_queue("q")
        right = emulator.connection_string
        with ServiceBusClient.from_connection_string(right) as client, client.get_queue_sender("q") as sender:
            sender.send_messages(ServiceBusMessage("a"))
        wrong = right.replace("SharedAccessKey=right", "SharedAccessKey=wrong")
        with (
            ServiceBusClient.from_connection_string(wrong, retry_total=0) as client,
            pytest.raises(ServiceBusAuthenticationError),
            client.get_queue_sender("q"),
        ):
            pass


def test_an_unknown_entity_is_told_as_such(client: ServiceBusClient) -> None:
    with pytest.raises(ServiceBusError), client.get_queue_sender("nowhere"):
        pass
