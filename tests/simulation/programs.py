"""Random orchestrations as data: programs, what the client does with them, and the generator of both from a seed.

A program is a short list of steps over one number; every step turns the number into another, so the result tells
whether each step was applied exactly once and in order. The generator makes only programs whose result does not
depend on timing: where a race is legitimate, both of its ends give the same number. Children wait for nobody from
outside, an instance that others count on for events never fails before it sent them, and explicit child ids occur
once.
"""

from __future__ import annotations

from random import Random

import msgspec

__all__ = [
    "Again",
    "Call",
    "Case",
    "ClientAction",
    "Detached",
    "FanOut",
    "Kill",
    "Parallel",
    "Pause",
    "Program",
    "Purge",
    "Race",
    "Raise",
    "RaiseEvent",
    "Reset",
    "Resume",
    "Rewind",
    "SetStatus",
    "Start",
    "Step",
    "SubCall",
    "Suspend",
    "Tell",
    "Terminate",
    "WaitEvents",
    "WaitTimeout",
    "generate",
]


class _Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="do"):
    """``site`` names the step within its program."""

    site: int = 0


class Call(_Step, frozen=True, kw_only=True, tag="call"):
    """Call an activity. It fails its first ``failures`` attempts; ``attempts`` are allowed."""

    arg: int
    cost_ms: int = 50
    failures: int = 0
    attempts: int = 1
    caught: bool = False
    pad: int = 0
    kills: bool = False
    """Its worker dies of it, every time."""
    until_s: float = 0.0
    """It fails before that virtual second; the client rewinds what failed of it."""


class FanOut(_Step, frozen=True, kw_only=True, tag="fan-out"):
    """Call activities at once and wait for all."""

    calls: tuple[Call, ...]


class Race(_Step, frozen=True, kw_only=True, tag="race"):
    """Wait for an activity or a timer, whichever is first; both ends count the same."""

    call: Call
    timer_s: float


class Pause(_Step, frozen=True, kw_only=True, tag="pause"):
    """Wait for a timer."""

    seconds: float


class WaitEvents(_Step, frozen=True, kw_only=True, tag="events"):
    """Wait for ``count`` external events, one after the other, and add their values up."""

    name: str
    count: int = 1


class WaitTimeout(_Step, frozen=True, kw_only=True, tag="event-or-timeout"):
    """Wait for an external event of value ``value`` or a timeout; both ends count the same."""

    name: str
    seconds: float
    value: int


class SubCall(_Step, frozen=True, kw_only=True, tag="child"):
    """Call a sub-orchestration; an empty ``instance`` lets the framework choose the id."""

    program: int
    instance: str = ""
    caught: bool = False


class Detached(_Step, frozen=True, kw_only=True, tag="detached"):
    """Start a sub-orchestration and do not wait for it."""

    program: int
    instance: str


class Tell(_Step, frozen=True, kw_only=True, tag="tell"):
    """Send an event to another instance."""

    instance: str
    name: str
    value: int


class SetStatus(_Step, frozen=True, kw_only=True, tag="status"):
    """Set the custom status."""

    text: str


class Raise(_Step, frozen=True, kw_only=True, tag="raise"):
    """Fail."""


class Kill(_Step, frozen=True, kw_only=True, tag="kill"):
    """End the worker's process, every time (poison)."""


class Parallel(_Step, frozen=True, kw_only=True, tag="parallel"):
    """Run branches side by side (one after the other in a generator orchestrator) and combine their numbers."""

    branches: tuple[tuple[Call | Pause | SubCall, ...], ...]


Step = (
    Call
    | FanOut
    | Race
    | Pause
    | WaitEvents
    | WaitTimeout
    | SubCall
    | Detached
    | Tell
    | SetStatus
    | Raise
    | Kill
    | Parallel
)


class Program(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Steps, run ``generations`` times by continue-as-new; ``style`` is ``async`` or ``generator``."""

    steps: tuple[Step, ...]
    generations: int = 1
    style: str = "async"


class _Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="do"):
    """``at``: virtual second of the client's action on ``instance``."""

    at: float
    instance: str


class Start(_Action, frozen=True, kw_only=True, tag="start"):
    """Start an instance: ``rivals`` clients at once, ``delay_s`` ahead; one that ``dies`` does so after its insert."""

    program: int
    rivals: int = 1
    delay_s: float = 0.0
    dies: bool = False


class RaiseEvent(_Action, frozen=True, kw_only=True, tag="raise-event"):
    """Raise an event; ``key`` is its id and makes a retry harmless. ``ahead``: without waiting for the start."""

    name: str
    value: int
    key: str
    ahead: bool = False


class Suspend(_Action, frozen=True, kw_only=True, tag="suspend"):
    """Suspend an instance."""


class Resume(_Action, frozen=True, kw_only=True, tag="resume"):
    """Resume an instance."""


class Terminate(_Action, frozen=True, kw_only=True, tag="terminate"):
    """Terminate an instance; ``ahead``: without waiting for its start."""

    ahead: bool = False


class Again(_Action, frozen=True, kw_only=True, tag="again"):
    """Start another program under the id of an instance once that has ended."""

    program: int


class Purge(_Action, frozen=True, kw_only=True, tag="purge"):
    """Remove an instance; ``blind``: send the order without looking whether it has ended."""

    recursive: bool = False
    blind: bool = False


class Rewind(_Action, frozen=True, kw_only=True, tag="rewind"):
    """Rewind an instance once it has ended, if it failed."""


class Reset(_Action, frozen=True, kw_only=True, tag="reset"):
    """Reset an instance to the turn that comes after ``share`` of its history, if it has started."""

    share: float


ClientAction = Start | RaiseEvent | Suspend | Resume | Terminate | Again | Purge | Rewind | Reset


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All a run is made of, faults apart."""

    programs: tuple[Program, ...]
    client: tuple[ClientAction, ...]


def generate(seed: int) -> Case:
    """Return the case of a seed."""
    return _Generator(Random(f"case/{seed}")).case()


class _Generator:
    """Draws one case."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._programs: list[Program] = []
        self._client: list[ClientAction] = []
        self._sites = 0
        self._events: dict[str, list[tuple[str, int, int]]] = {}
        """Per instance: name, value and number of the events it waits for."""

    def case(self) -> Case:
        random = self._random
        roots = [f"r{number}" for number in range(random.choice((1, 1, 2, 2, 3)))]
        wakes = {root: random.random() < 0.4 for root in roots}
        for root in roots:
            if wakes[root]:
                self._events[root] = [("news", random.randrange(1, 50), random.choice((1, 1, 2, 3)))]
        told: dict[str, int] = dict.fromkeys(self._events, 0)
        for root in roots:
            self._root(root, told)
        for root in self._events:
            self._raise_events(root, told[root])
        # Of two clients that start one id at once, the slower must find the instance alive: starting an ended id again
        # is allowed. An instance that still needs something from the client is alive until both have started it.
        waiting = {action.instance for action in self._client if isinstance(action, RaiseEvent | Terminate)}
        self._client = [
            msgspec.structs.replace(action, rivals=1)
            if isinstance(action, Start) and action.instance not in waiting
            else action
            for action in self._client
        ]
        return Case(
            programs=tuple(self._programs), client=tuple(sorted(self._client, key=lambda item: item.at))
        )

    def _root(self, root: str, told: dict[str, int]) -> None:
        random = self._random
        doomed = root not in self._events and random.random() < 0.12
        generations = random.choice((1, 1, 1, 2, 4)) if not doomed else 1
        steps: list[Step] = []
        if not doomed and generations == 1:
            steps += self._tells(root, told)
        # It tells others before it waits itself: two that told one another only after waiting would wait for ever.
        told_first = len(steps)
        steps += [self._step(root, generations, depth=0) for _ in range(random.randrange(1, 4))]
        for name, _value, count in self._events.get(root, ()):
            steps.insert(
                random.randrange(told_first, len(steps) + 1),
                WaitEvents(site=self._site(), name=name, count=count),
            )
        if doomed:
            steps.append(WaitEvents(site=self._site(), name="never"))
        elif generations == 1 and random.random() < 0.1:
            steps.append(Raise(site=self._site()))
        number = self._add(steps, generations)
        self._start(root, number, doomed=doomed)

    def _start(self, root: str, program: int, *, doomed: bool) -> None:
        random = self._random
        at = round(random.uniform(0, 10), 2)
        draw = random.random()
        self._client.append(
            Start(
                at=at,
                instance=root,
                program=program,
                rivals=2 if draw < 0.15 else 1,
                delay_s=round(random.uniform(1, 40), 1) if 0.15 < draw < 0.25 else 0.0,
                dies=0.25 < draw < 0.3,
            )
        )
        if doomed:
            self._client.append(Terminate(at=round(at + random.uniform(0.5, 60), 2), instance=root))
        if random.random() < 0.2:
            begin = at + random.uniform(0.1, 20)
            self._client.append(Suspend(at=round(begin, 2), instance=root))
            self._client.append(Resume(at=round(begin + random.uniform(0.5, 30), 2), instance=root))

    def _raise_events(self, root: str, told: int) -> None:
        random = self._random
        start = next(item for item in self._client if isinstance(item, Start) and item.instance == root)
        program = self._programs[start.program]
        for name, value, count in self._events[root]:
            for number in range(count * program.generations - told):
                at = round(start.at + random.choice((0.0, random.uniform(0, 2), random.uniform(0, 60))), 2)
                self._client.append(
                    RaiseEvent(at=at, instance=root, name=name, value=value, key=f"{root}-{name}-{number}")
                )

    def _tells(self, root: str, told: dict[str, int]) -> list[Step]:
        """Let this instance send one of the events that another one waits for."""
        random = self._random
        steps: list[Step] = []
        for other, events in self._events.items():
            name, value, count = events[0]
            if other != root and told[other] < count and random.random() < 0.5:
                told[other] += 1
                steps.append(Tell(site=self._site(), instance=other, name=name, value=value))
        return steps

    def _site(self) -> int:
        self._sites += 1
        return self._sites

    def _add(self, steps: list[Step], generations: int = 1) -> int:
        style = "generator" if self._random.random() < 0.3 else "async"
        self._programs.append(Program(steps=tuple(steps), generations=generations, style=style))
        return len(self._programs) - 1

    def _call(self, *, quick: bool = False) -> Call:
        random = self._random
        draw = random.random()
        failures, attempts, caught = 0, 1, False
        if not quick and draw < 0.15:
            failures = random.choice((1, 2))
            attempts = failures + 1
        elif not quick and draw < 0.25:
            failures, caught, attempts = 99, True, random.choice((1, 2))
        return Call(
            site=self._site(),
            arg=random.randrange(1000),
            cost_ms=random.choice((0, 10, 200, 200, 3000, 45_000 if random.random() < 0.1 else 500)),
            failures=failures,
            attempts=attempts,
            caught=caught,
            pad=3000 if random.random() < 0.05 else 0,
        )

    def _child(self, depth: int) -> int:
        random = self._random
        steps = [self._step("", 1, depth=depth + 1) for _ in range(random.randrange(1, 3))]
        if random.random() < 0.15:
            steps.append(Raise(site=self._site()))
        return self._add(steps, random.choice((1, 1, 1, 2)))

    def _sub_call(self, root: str, generations: int, depth: int) -> SubCall:
        site = self._site()
        explicit = root and generations == 1 and self._random.random() < 0.4
        return SubCall(
            site=site,
            program=self._child(depth),
            instance=f"{root}-c{site}" if explicit else "",
            caught=True,
        )

    def _step(self, root: str, generations: int, *, depth: int) -> Step:
        random = self._random
        draw = random.randrange(100)
        if draw < 25:
            return self._call()
        if draw < 40:
            return FanOut(
                site=self._site(),
                calls=tuple(self._call(quick=True) for _ in range(random.choice((2, 3, 5)))),
            )
        if draw < 50:
            timer_s = random.choice((0.2, 1.0, 20.0, 4000.0))
            return Race(site=self._site(), call=self._call(quick=True), timer_s=timer_s)
        if draw < 62:
            return Pause(site=self._site(), seconds=random.choice((0.0, 0.5, 2.0, 15.0, 70.0)))
        if draw < 70:
            return SetStatus(site=self._site(), text=f"at {self._sites}")
        if draw < 78:
            return WaitTimeout(
                site=self._site(),
                name=f"maybe-{self._sites}",
                seconds=random.choice((0.5, 5.0, 30.0)),
                value=5,
            )
        if depth >= 2:
            return self._call()
        if draw < 90:
            return self._sub_call(root, generations, depth)
        if draw < 95 or not root or generations > 1:
            branches: list[tuple[Call | Pause | SubCall, ...]] = []
            for _ in range(random.choice((2, 3))):
                second: Call | Pause = Pause(site=self._site(), seconds=random.choice((0.1, 3.0)))
                branches.append((self._call(quick=True), second if random.random() < 0.5 else self._call()))
            return Parallel(site=self._site(), branches=tuple(branches))
        site = self._site()
        return Detached(site=site, program=self._child(depth), instance=f"{root}-d{site}")
