"""The archive of dead letters, and what a hub counts about itself."""

from __future__ import annotations

from datetime import timedelta

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.ports import DeadLetter, HubPorts
from tests.contract.builders import WAIT_S, instance, message, task
from tests.contract.conftest import SETTINGS, PortsFactory


async def buried(ports: HubPorts, *message_ids: str, partition: int = 0) -> list[DeadLetter]:
    """Put messages aside and return their dead letters."""
    await ports.orchestrations.send([message(name, partition=partition) for name in message_ids])
    session = await ports.orchestrations.accept(partition)
    assert session is not None
    received = 0
    while received < len(message_ids):
        for delivery in await session.receive(len(message_ids) - received, WAIT_S):
            await session.dead_letter(delivery, "Poison", f"{delivery.id} cannot be handled")
            received += 1
    await session.close()
    letters: list[DeadLetter] = []
    while len(letters) < len(message_ids):
        found = await ports.orchestrations.dead_letters(len(message_ids) - len(letters))
        assert found, f"only {len(letters)} of {len(message_ids)} dead letters came"
        letters.extend(found)
    return letters


async def kept_ids(ports: HubPorts) -> list[str]:
    return [kept.letter.id for kept in await ports.archive.kept()]


async def test_a_kept_letter_is_out_of_its_queue_and_in_the_archive(ports_factory: PortsFactory) -> None:
    ports, other = await ports_factory(), await ports_factory()
    first, second = await buried(ports, "a", "b", partition=2)
    await ports.archive.keep(first)
    await ports.archive.keep(first)
    await ports.archive.keep(second)

    kept = await other.archive.kept()

    assert [(one.letter.id, one.letter.partition, one.letter.reason) for one in kept] == [
        ("a", 2, "Poison"),
        ("b", 2, "Poison"),
    ]
    assert kept[0].letter.messages == first.messages
    assert kept[0].letter.description == "a cannot be handled"
    assert await other.archive.find(kept[1].id) == kept[1]
    assert list(await ports.orchestrations.dead_letters(10)) == []


async def test_a_kept_task_is_in_the_archive_too(ports: HubPorts) -> None:
    await ports.activities.send([task("t")])
    (delivery,) = await ports.activities.receive(1, WAIT_S)
    await ports.activities.dead_letter(delivery, "Poison", "no such activity")
    (letter,) = await ports.activities.dead_letters(1)
    await ports.archive.keep(letter)

    (kept,) = await ports.archive.kept()

    assert kept.letter.task == letter.task
    assert kept.letter.messages == ()
    assert list(await ports.activities.dead_letters(1)) == []


async def test_a_removed_letter_is_gone_and_an_unknown_one_is_none(ports: HubPorts) -> None:
    for letter in await buried(ports, "a", "b"):
        await ports.archive.keep(letter)
    first, second = await ports.archive.kept()

    await ports.archive.remove(first.id)
    await ports.archive.remove(first.id)
    for unknown in ("", "it's", "9" * 30, "-1", "\u0661", first.id):
        await ports.archive.remove(unknown)
        assert await ports.archive.find(unknown) is None

    assert list(await ports.archive.kept()) == [second]


async def test_a_letter_that_nobody_has_dealt_with_is_not_in_the_archive(ports: HubPorts) -> None:
    (letter,) = await buried(ports, "a")

    assert await kept_ids(ports) == []
    for number in range(5):
        assert await ports.archive.find(str(number)) is None
        await ports.archive.remove(str(number))
    await ports.archive.keep(letter)
    assert await kept_ids(ports) == ["a"]


async def test_the_newest_letters_are_kept(ports: HubPorts) -> None:
    assert SETTINGS.dead_letters_kept_max == 3
    for letter in await buried(ports, "a", "b", "c", "d", "e"):
        await ports.archive.keep(letter)

    assert await kept_ids(ports) == ["c", "d", "e"]


async def test_an_empty_hub_counts_nothing(ports: HubPorts) -> None:
    counts = await ports.statistics.count()

    assert counts.instances == {}
    assert (counts.messages_waiting, counts.messages_scheduled) == (0, 0)
    assert (counts.tasks_waiting, counts.tasks_running or 0) == (0, 0)
    assert (counts.dead_waiting, counts.dead_kept) == (0, 0)
    assert counts.stored_bytes is None or counts.stored_bytes > 0


async def test_instances_are_counted_by_status_over_all_partitions(ports: HubPorts) -> None:
    await ports.store.insert_instance(0, instance("1"))
    await ports.store.insert_instance(0, instance("2", status=RuntimeStatus.FAILED))
    await ports.store.insert_instance(3, instance("3"))

    assert (await ports.statistics.count()).instances == {RuntimeStatus.RUNNING: 2, RuntimeStatus.FAILED: 1}


async def test_messages_are_counted_as_waiting_or_scheduled(ports: HubPorts) -> None:
    now = await ports.store.server_time()
    await ports.orchestrations.send([message("1", partition=1), message("2", partition=1)])
    await ports.orchestrations.send([message("due", partition=1, deliver_at=now - timedelta(hours=1))])
    await ports.orchestrations.send([message("later", partition=2, deliver_at=now + timedelta(hours=1))])

    counts = await ports.statistics.count()

    assert (counts.messages_waiting, counts.messages_scheduled) == (3, 1)
    if counts.partitions:
        assert [(one.partition, one.waiting, one.scheduled) for one in counts.partitions] == [
            *((0, 0, 0), (1, 3, 0), (2, 0, 1), (3, 0, 0))
        ]
        assert counts.partitions[1].oldest_at == now - timedelta(hours=1)
        assert counts.partitions[2].oldest_at is None


async def test_tasks_are_counted_as_waiting_until_somebody_takes_them(ports: HubPorts) -> None:
    await ports.activities.send([task("1"), task("2"), task("3", group="heavy")])
    assert len(await ports.activities.receive(1, WAIT_S)) == 1

    counts = await ports.statistics.count()

    # A broker that does not tell which tasks were received counts them with those that wait.
    assert (counts.tasks_waiting, counts.tasks_running) in ((2, 1), (3, None))


async def test_dead_letters_are_counted_before_and_after_they_are_kept(ports: HubPorts) -> None:
    first, _ = await buried(ports, "a", "b")
    counts = await ports.statistics.count()
    assert (counts.dead_waiting, counts.dead_kept) == (2, 0)

    await ports.archive.keep(first)

    counts = await ports.statistics.count()
    assert (counts.dead_waiting, counts.dead_kept) == (1, 1)
