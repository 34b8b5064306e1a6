"""A Service Bus emulator: `python -m durabletask_azure.emulator`, or `RunningEmulator` inside a test.

It is useful by itself and imports nothing else of the package. From the outside in: `server.py` (asyncio), `peer.py`
with `sending.py`, `receiving.py`, `replying.py` and `management.py` (what links do with queues), `broker/` (queues,
without I/O), `amqp/` (the wire, without I/O). `docs/emulator.md` tells what it does and what it does not.
"""
