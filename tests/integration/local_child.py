"""What the tests of the embedded hub run in processes of their own, to be killed.

``python -m tests.integration.local_child COMMAND PATH``: each command says a line when it got somewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.payloads import payload_name
from durabletask_azure.core.rows import LockRow, PutInstance
from durabletask_azure.ports import HubPorts, WorkerRow
from durabletask_azure.settings import Settings
from tests.contract.builders import instance, message, task

FOREVER_S = 3600.0
SETTINGS = Settings(delivery_count_max=3)


def say(text: object) -> None:
    print(text, flush=True)


async def create(ports: HubPorts) -> None:
    """Open the hub and say its incarnation."""
    say(ports.info.incarnation)


async def hold(ports: HubPorts) -> None:
    """Take every partition and two tasks, announce a worker, and keep it all."""
    for partition in range(ports.info.partitions):
        assert await ports.orchestrations.accept(partition) is not None
    assert len(await ports.activities.receive(2, FOREVER_S)) == 2
    await ports.membership.announce(
        WorkerRow(worker_id="doomed", partitions=tuple(range(ports.info.partitions)))
    )
    say("holding")
    await asyncio.Event().wait()


async def receive(ports: HubPorts) -> None:
    """Take partition 0, say what comes and how often it did, complete nothing."""
    session = await ports.orchestrations.accept(0)
    assert session is not None
    while True:
        for delivery in await session.receive(10, FOREVER_S):
            say(f"{delivery.id} {delivery.delivery_count}")


async def plans(ports: HubPorts) -> None:
    """Run plans on partition 0 for ever; each writes its number everywhere and is said when it is committed."""
    assert ports.atomic is not None
    session = await ports.orchestrations.accept(0)
    assert session is not None
    lock = await ports.store.read_lock(0)
    stored = await ports.store.read_instance(0, "counter")
    lock_etag, etag = lock.etag, None if stored is None else stored.etag
    for number in itertools.count(lock.row.n + 1):
        receipt = await ports.atomic.execute(
            0,
            LockRow(n=number),
            lock_etag,
            [PutInstance(instance("counter", output=str(number)), etag)],
            sends=[message(f"m{number}"), message(f"m{number}", partition=1), task(f"t{number}")],
            session=session,
            completes=await session.receive(10, 0),
        )
        lock_etag, etag = receipt.lock_etag, receipt.etags["counter"]
        say(number)


async def answer(ports: HubPorts) -> None:
    """Answer each message to partition 0 with one to partition 1."""
    session = await ports.orchestrations.accept(0)
    assert session is not None
    say("ready")
    while True:
        received = await session.receive(10, FOREVER_S)
        await ports.orchestrations.send([message(f"re: {delivery.id}", partition=1) for delivery in received])
        await session.complete(received)


async def finish(ports: HubPorts) -> None:
    """Hold partition 0, take a task, send its result, and handle nothing."""
    assert await ports.orchestrations.accept(0) is not None
    (taken,) = await ports.activities.receive(1, FOREVER_S)
    await ports.activities.finish([(taken, message(f"done {taken.id}"))])
    say(f"finished {taken.id} {taken.delivery_count}")
    await asyncio.Event().wait()


async def draft(ports: HubPorts) -> None:
    """Write a large value as far as the disk's sync, and be killed there."""
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    await ports.payloads.put(payload_name(0, "gone", "e1", b"never whole"), b"never whole")


COMMANDS = {command.__name__: command for command in (create, hold, receive, plans, answer, finish, draft)}


async def main(command: str, path: str) -> None:
    ports = open_local(path, settings=SETTINGS)
    await COMMANDS[command](ports)
    assert ports.close is not None
    await ports.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
