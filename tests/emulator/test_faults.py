"""Every fault at every operation, frame by frame and in virtual time: what is done, and what the client hears."""

from __future__ import annotations

import itertools

import pytest

from durabletask_azure.emulator.amqp.encode import encode, encode_composite, encode_map, encode_section
from durabletask_azure.emulator.amqp.types import Described, Value
from durabletask_azure.emulator.faults import Fault, FaultKind, Operation
from tests.emulator.wire import (
    ATTACH,
    DETACH,
    DISPOSITION,
    RECEIVES,
    SENDS,
    TRANSFER,
    Bench,
    answers,
    attach,
    condition,
    credit,
    read_frames,
    settled,
    transfer,
    transfer_of,
)
from tests.emulator.world import BEGIN, content, message

DELAY_S = 7.0
# Handles 0 and 1 are those of `$cbs`.
LINK, OTHER = 2, 3
NODE = "q/$management"
REFUSALS = {
    FaultKind.REFUSE: "test:refused",
    FaultKind.THROTTLE: "com.microsoft:server-busy",
}
ACCEPTED = 0x24

Frames = list[tuple[int, list[Value], bytes]]


class Play:
    """A client that is about to do an operation on the queue `q`."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.bench = Bench()
        self.peer = self.bench.sign_in()
        match operation:
            case Operation.ATTACH:
                self._next = attach("sender", LINK, SENDS, "here", "q")
            case Operation.SEND:
                answers(self.peer, attach("sender", LINK, SENDS, "here", "q"))
                self._next = transfer(LINK, 1)
            case Operation.SETTLE:
                self.bench.world.namespace.entry("q").queue.send([content("one")])
                answers(self.peer, attach("receiver", LINK, RECEIVES, "q", "here"))
                [(_, fields, _)] = [
                    each for each in answers(self.peer, credit(LINK, 1)) if each[0] == TRANSFER
                ]
                assert isinstance(fields[1], int)
                self._next = settled(fields[1])
            case Operation.MANAGE:
                answers(self.peer, attach("requests", LINK, SENDS, "me", NODE))
                answers(self.peer, attach("replies", OTHER, RECEIVES, NODE, "me") + credit(OTHER, 10))
                self._next = transfer_of(LINK, 1, scheduling())

    def do(self) -> str:
        """Do it; return what the client hears."""
        return self._heard(answers(self.peer, self._next))

    def later(self) -> str:
        """Let the time of the delay pass; return what the client hears then."""
        [(seconds, callback)] = self.bench.later
        assert seconds == DELAY_S
        self.peer.connection.output()
        callback()
        return self._heard(read_frames(self.peer.connection.output()))

    def _heard(self, frames: Frames) -> str:
        """`done`, the condition of an error, or nothing."""
        heard: list[str] = []
        for code, fields, payload in frames:
            if code == ATTACH and fields[6] is not None:
                heard.append("done")
            elif code == DETACH:
                heard.append(condition(fields[2]))
            elif code == TRANSFER:
                heard.append("done" if b"\xa1\x02OK" in payload else said(payload))
            elif code == DISPOSITION and self.operation is not Operation.MANAGE:
                state = fields[4]
                assert isinstance(state, Described)
                assert isinstance(state.value, list)
                heard.append("done" if state.descriptor == ACCEPTED else condition(state.value[0]))
        assert len(heard) <= 1
        return heard[0] if heard else ""

    @property
    def is_done(self) -> bool:
        """Whether the broker did what was asked."""
        messages = self.bench.world.namespace.entry("q").queue.messages
        if self.operation is Operation.ATTACH:
            # Whoever is attached can send.
            self.peer.receive(transfer(LINK, 1))
        return len(messages) == (0 if self.operation is Operation.SETTLE else 1)


def said(answer: bytes) -> str:
    """Return the condition of an error that a request was answered with: a symbol, after its length."""
    symbol = answer.rpartition(b"errorCondition")[2]
    return symbol[2 : 2 + symbol[1]].decode()


def scheduling() -> bytes:
    """Return the request to schedule a message, which leaves a trace in the queue."""
    one: dict[Value, Value] = {"message-id": "m", "message": message("late", scheduled_at=BEGIN + 3600)}
    request = encode_composite(0x73, ["request", None, None, None, "me"])
    request += encode_section(
        0x74, encode_map([encode("operation"), encode("com.microsoft:schedule-message")])
    )
    named: dict[Value, Value] = {"messages": [one]}
    return request + encode_section(0x77, encode(named))


@pytest.mark.parametrize(
    ("kind", "operation"), list(itertools.product(FaultKind, Operation)), ids=lambda value: value.value
)
def test_each_fault_does_at_each_operation_what_its_name_says(kind: FaultKind, operation: Operation) -> None:
    play = Play(operation)
    play.bench.broker.faults.add(
        Fault(kind, operation, "Q", seconds=DELAY_S, condition="test:refused", description="")
    )
    heard = play.do()
    match kind:
        case FaultKind.DELAY:
            assert heard == ""
            assert play.later() == "done"
            assert play.is_done
        case FaultKind.SWALLOW_REPLY:
            assert heard == ""
            # An attach nobody answered is none.
            assert operation is Operation.ATTACH or play.is_done
        case FaultKind.DROP_CONNECTION:
            assert (heard, play.bench.aborted) == ("", 1)
            assert not play.is_done
        case FaultKind.DROP_LINK:
            assert heard == "amqp:link:detach-forced"
            assert not play.is_done
        case FaultKind.REFUSE | FaultKind.THROTTLE:
            assert heard == REFUSALS[kind]
            assert not play.is_done
    assert play.bench.broker.faults.waiting == []


@pytest.mark.parametrize("operation", Operation)
def test_a_fault_hits_as_many_as_it_says_after_those_it_lets_pass(operation: Operation) -> None:
    play = Play(operation)
    faults = play.bench.broker.faults
    faults.add(Fault(FaultKind.REFUSE, operation, "q", count=2, skip=1))
    assert [faults.take(operation, "q") is None for _ in range(4)] == [True, False, False, True]
    faults.add(Fault(FaultKind.REFUSE, operation, "other-*"))
    assert play.do() == "done"
    assert play.is_done
