"""Which faults strike when: profiles, the draw from a seed, and the script of a replay.

A run's faults are of two sorts. World faults (outages, cuts, restarts, poison, a queue made anew, clock skew) are drawn
in advance as a :class:`Plan`, plain data. Call faults are drawn call by call, each gate from a stream of its own, and
recorded; a replay takes them from the record, so that they can be left out one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random

import msgspec

from durabletask_azure.errors import HubUnavailableError, QueueFullError, ThrottledError
from tests.simulation.fakes.gate import Fault
from tests.simulation.fakes.world import World

__all__ = [
    "PROFILES",
    "CallFault",
    "DrawnFaults",
    "Plan",
    "Profile",
    "ScriptedFaults",
    "Window",
    "fault_number",
    "install",
    "plan",
    "skew_of",
]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """``rates``: chance per weighted call of each kind of fault; ``windows``: how many of each world fault at most.

    ``variant`` changes the case (``variants``), ``tight`` makes limits tiny (``limits``), ``late`` delivers copies of
    old messages after everything was purged, ``hangs_up`` has the broker
    notice at once that a worker was ended by the code it ran.
    """

    rates: Mapping[str, float] = {}
    windows: Mapping[str, int] = {}
    stall_s: tuple[float, float] = (35.0, 100.0)
    duplicate: float = 0.0
    hold_back: float = 0.0
    activation_lag_s: float = 0.3
    skew: bool = False
    dedup_s: float = 300.0
    variant: str = ""
    tight: str = ""
    late: bool = False
    hangs_up: bool = False


_CRASHES = {"crash_before": 0.001, "crash_after": 0.001, "crash_partial": 0.003}
_STALLS = {"stall": 0.001, "stall_after": 0.001}
_LOST = {"unavailable": 0.002, "reply_lost": 0.003, "landed": 0.003}
_SLOW = {"delay": 0.01, "slow": 0.01}
_SENDS = {"partial": 0.02, "unavailable": 0.002, "full": 0.005}
_SETTLES = {"settle_lost": 0.02, "reply_lost": 0.002}
_SWALLOW = {"swallow": 0.01}


def _times(rates: Mapping[str, float], factor: float) -> dict[str, float]:
    return {kind: rate * factor for kind, rate in rates.items()}


PROFILES: dict[str, Profile] = {
    "calm": Profile(),
    "crashes": Profile(rates={**_times(_CRASHES, 3)}, windows={"restart": 1}),
    "stalls": Profile(rates={**_times(_STALLS, 4), **_SLOW}),
    "replies": Profile(rates=_times(_LOST, 3)),
    "duplicates": Profile(duplicate=0.3, dedup_s=0.0, rates={"partial": 0.01}),
    "delays": Profile(rates=_times(_SLOW, 5), hold_back=0.1, activation_lag_s=3.0),
    "settles": Profile(rates={**_SETTLES, **_times(_CRASHES, 1)}),
    "sends": Profile(rates={**_SENDS, **_times(_CRASHES, 2)}, dedup_s=0.0),
    "throttling": Profile(rates={"throttled": 0.01}, windows={"throttle": 2}),
    "storage": Profile(windows={"storage": 2, "cut storage": 1}),
    "bus": Profile(windows={"bus": 2, "cut bus": 1, "full": 1}),
    "swallow": Profile(rates={**_SWALLOW, "reply_lost": 0.001}),
    "recreated": Profile(windows={"recreate": 2}, rates=_times(_CRASHES, 1)),
    "clocks": Profile(skew=True, rates={**_STALLS, **_CRASHES}),
    "poison": Profile(windows={"poison": 3}),
    "restarts": Profile(windows={"restart": 4}, rates=_SLOW),
    "tight": Profile(
        rates={**_times(_CRASHES, 1.5), **_SENDS, **_STALLS, **_LOST}, windows={"full": 1}, tight="all"
    ),
    "reuse": Profile(
        rates={**_times(_CRASHES, 1), **_LOST, "partial": 0.01}, duplicate=0.2, dedup_s=0.0, variant="reused"
    ),
    "purges": Profile(rates=_times(_CRASHES, 1), duplicate=0.1, dedup_s=0.0, variant="purged", late=True),
    "overtakes": Profile(rates={**_times(_CRASHES, 2), **_SLOW}, hold_back=0.05, variant="overtaken"),
    "rollback": Profile(windows={"codeless": 3, "rolling": 1}, rates=_SLOW),
    "stops": Profile(windows={"restart": 1, "stop twice": 3, "rolling": 2}, rates=_SLOW),
    "killers": Profile(variant="deadly"),
    "payloads": Profile(
        windows={"blob lost": 2, "blob damaged": 1}, rates=_times(_CRASHES, 2), variant="spilled"
    ),
    "rows": Profile(windows={"row damaged": 2}, rates=_SLOW, variant="untold"),
    "failover": Profile(windows={"failover": 2}, rates=_times(_CRASHES, 0.5), variant="recoverable"),
    "wedged": Profile(rates={"hang": 0.002, **_SLOW}),
    "staging": Profile(rates={**_times(_STALLS, 6), **_times(_CRASHES, 2), **_SLOW}, tight="staging"),
    "partings": Profile(
        rates={**_SENDS, **_times(_CRASHES, 3)}, dedup_s=0.0, windows={"restart": 1}, variant="parting"
    ),
    "landed": Profile(rates={"landed": 0.01}),
    "mixed": Profile(
        rates={**_times(_CRASHES, 0.7), **_STALLS, **_LOST, **_SLOW, **_SENDS, **_SETTLES, **_SWALLOW},
        windows={
            "storage": 1,
            "bus": 1,
            "throttle": 1,
            "restart": 1,
            "cut bus": 1,
            "cut storage": 1,
            "full": 1,
        },
        duplicate=0.05,
        hold_back=0.03,
        skew=True,
        dedup_s=60.0,
    ),
    "rewinds": Profile(
        rates={**_times(_CRASHES, 1), **_LOST, "partial": 0.01},
        duplicate=0.1,
        hold_back=0.03,
        dedup_s=0.0,
        variant="rewound",
        late=True,
    ),
    "uncounted": Profile(variant="lethal", hangs_up=True, rates=_SLOW),
}

_SEND = ("queue.send", "activities.send", "activities.finish.send")
_SETTLE = ("session.complete", "activities.finish.complete")
_RECEIVE = ("session.receive", "activities.receive")
_LANDED = ("store.commit", "store.insert_instance", "store.replace_instance", "atomic.execute")
_ONLY: dict[str, tuple[str, ...]] = {
    "partial": _SEND,
    "crash_partial": _SEND,
    "full": _SEND,
    "settle_lost": _SETTLE,
    "swallow": _RECEIVE,
    "landed": _LANDED,
    "hang": ("store.commit",),
}
_WEIGHTS = {
    "store.commit": 6.0,
    "queue.send": 6.0,
    "activities.send": 6.0,
    "activities.finish.send": 6.0,
    "activities.finish.complete": 3.0,
    "session.complete": 4.0,
    "session.receive": 1.5,
    "store.insert_instance": 4.0,
    "payloads.put": 6.0,
    "activities.renew": 4.0,
    "atomic.execute": 6.0,
}
_DEFAULT_WEIGHT = 0.4


class CallFault(msgspec.Struct, frozen=True):
    """A fault and the call it struck."""

    gate: str
    number: int
    op: str
    fault: Fault


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A world fault from ``begin`` to ``end``; ``gate`` is the worker's name it concerns, or empty."""

    kind: str
    begin: float
    end: float
    gate: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The world faults of a run: ``heal`` is when the last fault ends, ``skews`` are clock offsets per worker name."""

    profile: str
    heal: float
    windows: tuple[Window, ...] = ()
    skews: Mapping[str, tuple[float, float, float]] = {}
    """Offset at first, when it jumps, and the offset from then on."""


def plan(seed: int, profile: str, workers: int) -> Plan:
    """Draw the world faults of a seed."""
    random = Random(f"plan/{seed}/{profile}")
    chosen = PROFILES[profile]
    heal = round(random.uniform(40, 120), 1) if profile != "calm" else 0.0
    windows: list[Window] = []
    for kind, most in chosen.windows.items():
        for _ in range(random.randrange(most + 1)):
            begin = round(random.uniform(0, heal * 0.8), 2)
            end = round(min(heal, begin + random.uniform(2, 60)), 2)
            local = kind in ("cut bus", "cut storage", "restart", "stop twice", "codeless")
            windows.append(Window(kind, begin, end, f"w{random.randrange(workers)}" if local else ""))
    skews: dict[str, tuple[float, float, float]] = {}
    if chosen.skew:
        for number in range(workers):
            skews[f"w{number}"] = (
                random.uniform(-300, 300),
                random.uniform(0, heal),
                random.uniform(-300, 300),
            )
    return Plan(profile=profile, heal=heal, windows=tuple(windows), skews=skews)


class DrawnFaults:
    """Draws the fault of each call, each gate from its own stream, and records what it drew."""

    def __init__(self, seed: int, profile: str, heal: float) -> None:
        self._seed = seed
        self._profile = PROFILES[profile]
        self._heal = heal
        self._streams: dict[str, Random] = {}
        self._kinds: dict[str, tuple[float, list[tuple[str, float]]]] = {}
        self.drawn: list[CallFault] = []

    def _for_op(self, op: str) -> tuple[float, list[tuple[str, float]]]:
        found = self._kinds.get(op)
        if found is None:
            weight = _WEIGHTS.get(op, _DEFAULT_WEIGHT)
            kinds = [
                (kind, rate * weight)
                for kind, rate in self._profile.rates.items()
                if kind not in _ONLY or op in _ONLY[kind]
            ]
            found = self._kinds[op] = (sum(rate for _kind, rate in kinds), kinds)
        return found

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        """Return the fault for a call."""
        if now >= self._heal:
            return None
        total, kinds = self._for_op(op)
        stream = self._streams.get(gate)
        if stream is None:
            stream = self._streams[gate] = Random(f"faults/{self._seed}/{gate}")
        draw = stream.random()
        if draw >= total:
            return None
        for kind, rate in kinds:
            if draw < rate:
                if gate.startswith("client") and kind in ("crash_partial", "stall", "stall_after", "hang"):
                    return None
                fault = self._fault(kind, stream)
                self.drawn.append(CallFault(gate, number, op, fault))
                return fault
            draw -= rate
        return None

    def _fault(self, kind: str, random: Random) -> Fault:
        match kind:
            case "stall" | "stall_after":
                return Fault(kind, seconds=round(random.uniform(*self._profile.stall_s), 2))
            case "delay" | "slow":
                return Fault(kind, seconds=round(random.choice((0.05, 0.5, 5.0)) * random.random(), 3))
            case "throttled":
                return Fault(kind, seconds=round(random.uniform(0.1, 10.0), 1))
            case "hang":
                return Fault(kind, seconds=5_000.0)
            case "partial" | "crash_partial":
                return Fault(kind, count=random.randrange(4))
            case "swallow":
                return Fault(kind, count=random.choice((1, 1, 2)))
            case _:
                return Fault(kind)


class ScriptedFaults:
    """Strikes exactly the calls of a record."""

    def __init__(self, script: tuple[CallFault, ...]) -> None:
        self._script = {(item.gate, item.number): item for item in script}
        self.drawn: list[CallFault] = []

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        """Return the fault recorded for a call, if the call is still the same."""
        item = self._script.get((gate, number))
        if item is None or item.op != op:
            return None
        self.drawn.append(item)
        return item.fault


def skew_of(chosen: Plan, worker: str) -> Callable[[float], float] | None:
    """Return a worker's clock error as a function of virtual time."""
    skew = chosen.skews.get(worker)
    if skew is None:
        return None
    first, jump, then = skew
    return lambda now: first if now < jump else then


def install(world: World, chosen: Plan, seed: int, counts: Counter[str]) -> None:
    """Let the plan's outages and the profile's broker behaviour act on a world."""
    profile = PROFILES[chosen.profile]
    random = Random(f"world/{seed}/{chosen.profile}")

    def duplicate_after() -> float | None:
        if world.time() >= chosen.heal or random.random() >= profile.duplicate:
            return None
        counts["F11"] += 1
        return random.choice((0.0, random.uniform(0, 5), random.uniform(0, 600)))

    def hold_back() -> float:
        if world.time() >= chosen.heal or random.random() >= profile.hold_back:
            return 0.0
        counts["F12"] += 1
        return random.uniform(0, 8)

    world.sessions.duplicate_after = duplicate_after
    world.activities.duplicate_after = duplicate_after
    world.sessions.hold_back = hold_back
    world.sessions.activation_lag = lambda: random.random() * profile.activation_lag_s

    def outage(gate: str, op: str) -> BaseException | None:
        now = world.time()
        for window in chosen.windows:
            if window.begin <= now < window.end:
                error = _outage_error(window, gate, op)
                if error is not None:
                    counts[_WINDOW_NUMBERS[window.kind]] += 1
                    return error
        return None

    world.outages = outage if any(window.kind in _WINDOW_NUMBERS for window in chosen.windows) else None


_STORAGE = ("store.", "payloads.", "membership.", "atomic.")
_WINDOW_NUMBERS = {
    "storage": "F25",
    "bus": "F25",
    "throttle": "F25",
    "full": "F26",
    "cut bus": "F27",
    "cut storage": "F27",
}


def _outage_error(window: Window, gate: str, op: str) -> BaseException | None:
    if window.gate and gate.split("#")[0] != window.gate:
        return None
    storage = op.startswith(_STORAGE)
    match window.kind:
        case "storage" | "cut storage" if storage:
            return HubUnavailableError(f"{op}: storage cannot be reached")
        case "bus" | "cut bus" if not storage or op.startswith("atomic."):
            return HubUnavailableError(f"{op}: the bus cannot be reached")
        case "throttle" if storage:
            return ThrottledError(f"{op}: 503", retry_after=timedelta(seconds=2))
        case "full" if op in _SEND:
            return QueueFullError(f"{op}: the queue is full")
        case _:
            return None


_NUMBERS: dict[tuple[str, str], str] = {
    ("crash_before", "store.commit"): "F1",
    ("crash_after", "store.commit"): "F2",
    ("crash_before", "session.complete"): "F4",
    ("crash_after", "queue.send"): "F4",
    ("reply_lost", "store.commit"): "F5",
    ("unavailable", "store.commit"): "F6",
    ("landed", "store.commit"): "F7",
    ("stall", "store.commit"): "F8",
    ("stall_after", "store.commit"): "F9",
    ("reply_lost", "session.complete"): "F13",
    ("reply_lost", "session.receive"): "F14",
    ("unavailable", "session.receive"): "F15",
    ("unavailable", "queue.accept"): "F15",
    ("unavailable", "activities.renew"): "F16",
    ("crash_before", "activities.finish.send"): "F17",
    ("crash_before", "activities.finish.complete"): "F17",
    ("crash_after", "activities.finish.send"): "F17",
    ("crash_after", "payloads.put"): "F24",
}
_BY_KIND = {
    "crash_partial": "F3",
    "partial": "F3",
    "stall": "F10",
    "stall_after": "F10",
    "delay": "F12",
    "slow": "F12",
    "settle_lost": "F13",
    "throttled": "F25",
    "full": "F26",
    "swallow": "F36",
    "hang": "F37",
}


def fault_number(fault: CallFault) -> str:
    """Return the number of the fault catalogue that a call fault belongs to."""
    found = _NUMBERS.get((fault.fault.kind, fault.op)) or _BY_KIND.get(fault.fault.kind)
    return found or f"{fault.fault.kind} elsewhere"
