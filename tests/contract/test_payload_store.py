"""Payloads: written once under a name of their content, checked when read."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from durabletask_azure.core.payloads import payload_name
from durabletask_azure.errors import ConfigurationError, PayloadMissingError
from durabletask_azure.ports import HubPorts
from tests.contract.conftest import PortsFactory

DATA = "🎉 ".encode() * 100_000


def name_of(data: bytes, *, instance_id: str = "i", partition: int = 7) -> str:
    return payload_name(partition, instance_id, "e1", data)


async def test_a_value_is_read_as_it_was_put_by_everybody(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    await one.payloads.put(name_of(DATA), DATA)
    await one.payloads.put(name_of(DATA), DATA)
    await one.payloads.put(name_of(b""), b"")

    assert await other.payloads.get(name_of(DATA), len(DATA)) == DATA
    assert await other.payloads.get(name_of(b""), 0) == b""


async def test_a_missing_value_is_an_error(ports: HubPorts) -> None:
    with pytest.raises(PayloadMissingError):
        await ports.payloads.get(name_of(DATA), len(DATA))


async def test_a_value_of_another_size_or_content_is_an_error(ports: HubPorts) -> None:
    await ports.payloads.put(name_of(DATA), DATA)
    with pytest.raises(PayloadMissingError):
        await ports.payloads.get(name_of(DATA), len(DATA) + 1)

    await ports.payloads.put(name_of(DATA), DATA[:-1] + b"x")
    with pytest.raises(PayloadMissingError):
        await ports.payloads.get(name_of(DATA), len(DATA))


async def test_a_value_of_any_bytes_comes_back(ports: HubPorts) -> None:
    for data in (b"\xff", b"\xffz", b"\xff-", b"\xffz" * 10_000, bytes(range(256)) * 100):
        await ports.payloads.put(name_of(data), data)
        assert await ports.payloads.get(name_of(data), len(data)) == data


async def test_deleted_values_are_gone_and_missing_ones_no_error(ports: HubPorts) -> None:
    kept, gone = name_of(b"kept"), name_of(b"gone")
    await ports.payloads.put(kept, b"kept")
    await ports.payloads.put(gone, b"gone")

    await ports.payloads.delete([gone, name_of(b"never", instance_id="other"), gone])

    with pytest.raises(PayloadMissingError):
        await ports.payloads.get(gone, 4)
    assert await ports.payloads.get(kept, 4) == b"kept"


async def test_values_are_listed_by_prefix_with_their_time(ports: HubPorts) -> None:
    names = {
        name_of(data, instance_id=who, partition=part)
        for data in (b"1", b"2")
        for who in "ab"
        for part in (1, 2)
    }
    for name in names:
        await ports.payloads.put(
            name, b"1" if hashlib.blake2b(b"1", digest_size=20).hexdigest() in name else b"2"
        )
    of_a = name_of(b"", instance_id="a", partition=1).rpartition("/")[0].rpartition("/")[0]

    everything = [found async for found in ports.payloads.list("")]

    assert {name for name, _ in everything} == names
    assert all(abs(datetime.now(UTC) - at) < timedelta(minutes=1) for _, at in everything)
    assert {name async for name, _ in ports.payloads.list("p001/")} == {
        name for name in names if "p001" in name
    }
    assert {name async for name, _ in ports.payloads.list("p00")} == names
    assert {name async for name, _ in ports.payloads.list(of_a)} == {
        name for name in names if name.startswith(of_a)
    }
    assert [found async for found in ports.payloads.list("p009/")] == []


@pytest.mark.parametrize(
    "name",
    ["", "x", "../../etc/passwd", "p007/../../x", "/etc/passwd", "p007/a/b", "p007/a//c", "p007/a/b/c/d", "p007/a/b/.c",
     "p007/a/b/c\0", "p007\\a\\b\\c", "p007/a/b/ü", "p007/a/b/c\n"],
)  # fmt: skip
async def test_a_name_that_is_none_is_refused(ports: HubPorts, name: str) -> None:
    with pytest.raises(ConfigurationError):
        await ports.payloads.put(name, b"")
    with pytest.raises(ConfigurationError):
        await ports.payloads.get(name, 0)
    with pytest.raises(ConfigurationError):
        await ports.payloads.delete([name])
