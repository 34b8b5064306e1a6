"""Messages and ids around what Service Bus takes: they arrive whole, or are refused alone and with a reason."""

from __future__ import annotations

import asyncio

import pytest

from durabletask_azure.errors import PayloadTooLargeError
from tests.integration.queues_on_emulator import EmulatedHub, accepted, hub, ids, message, received, running

__all__ = ["hub", "running"]

pytestmark = [
    pytest.mark.azure,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MESSAGE_BYTES_MAX = 256 * 1024


@pytest.mark.parametrize("length", [127, 128, 129, 500])
async def test_messages_with_ids_around_128_characters_arrive_under_their_own(
    hub: EmulatedHub, length: int
) -> None:
    queues = hub.open(pack_events_max=1)
    names = ["x" * (length - 1) + end for end in "ab"]

    await queues.orchestrations.send([message(name) for name in names])

    deliveries = await received(await accepted(queues), 2)
    assert [one.id for delivery in deliveries for one in delivery.messages] == names
    assert len(set(ids(deliveries))) == 2


@pytest.mark.parametrize("below", [20_000, 2_000, 1_000, 500, 300, 200, 100, 0, -100, -2_000])
async def test_a_message_around_256_kib_arrives_whole_or_is_refused(hub: EmulatedHub, below: int) -> None:
    queues = hub.open()
    large = message("large", text="x" * (MESSAGE_BYTES_MAX - below))

    (outcome,) = await asyncio.gather(queues.orchestrations.send([large]), return_exceptions=True)
    await queues.orchestrations.send([message("next")])

    # What the SDK and the broker add is not known to the byte; between these it may go either way.
    assert outcome is None or below < 1_000
    assert outcome is not None or below > 0
    assert outcome is None or isinstance(outcome, PayloadTooLargeError)
    sent = [message("next")] if outcome else [large, message("next")]
    deliveries = await received(await accepted(queues), len(sent))
    assert [one.id for delivery in deliveries for one in delivery.messages] == [
        out.message.id for out in sent
    ]


@pytest.mark.parametrize("size", [60_000, 81_000, 83_000, 87_000, 120_000, 125_000, 130_000, 131_072])
async def test_batches_around_256_kib_are_sent_in_as_many_as_it_takes(hub: EmulatedHub, size: int) -> None:
    queues = hub.open(pack_events_max=1)
    sent = [message(f"{number}", text="x" * size) for number in range(6)]

    await queues.orchestrations.send(sent)

    assert ids(await received(await accepted(queues), 6)) == [out.message.id for out in sent]
