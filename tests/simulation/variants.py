"""Changes a profile makes to the case of a seed, so that the faults it is about find what they strike at.

Each takes a case and returns a sound one: the model knows what it must come to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from tests.simulation.programs import (
    Again,
    Call,
    Case,
    ClientAction,
    Detached,
    FanOut,
    Kill,
    Parallel,
    Pause,
    Program,
    Purge,
    Race,
    Raise,
    RaiseEvent,
    Reset,
    Rewind,
    SetStatus,
    Start,
    Step,
    SubCall,
    Tell,
    Terminate,
    WaitEvents,
    WaitTimeout,
)

__all__ = ["VARIANTS", "told_by_client", "vary"]


def vary(case: Case, variant: str, seed: int) -> Case:
    """Return the case a profile's ``variant`` makes of ``case``; without one, the case itself."""
    if not variant:
        return case
    changed = VARIANTS[variant](case, Random(f"variant/{variant}/{seed}"))
    return msgspec.structs.replace(
        changed, client=tuple(sorted(changed.client, key=lambda action: action.at))
    )


def told_by_client(case: Case, tells: Sequence[Tell]) -> Case:
    """Let the client raise the events of steps that are left out."""
    starts = {action.instance: action.at for action in case.client if isinstance(action, Start)}
    added: list[ClientAction] = [
        RaiseEvent(
            at=starts[tell.instance],
            instance=tell.instance,
            name=tell.name,
            value=tell.value,
            key=f"told-{tell.site}",
        )
        for tell in tells
        if tell.instance in starts
    ]
    client = sorted((*case.client, *added), key=lambda action: action.at)
    return msgspec.structs.replace(case, client=tuple(client))


def _each_step(case: Case, change: Callable[[Step], Step]) -> Case:
    programs = tuple(
        msgspec.structs.replace(program, steps=tuple(change(step) for step in program.steps))
        for program in case.programs
    )
    return msgspec.structs.replace(case, programs=programs)


def _untold(case: Case, random: Random) -> Case:
    """Nobody waits for what another instance sends: one that is harmed harms no other."""
    tells = [step for program in case.programs for step in program.steps if isinstance(step, Tell)]

    def change(step: Step) -> Step:
        return SetStatus(site=step.site, text=f"told {step.site}") if isinstance(step, Tell) else step

    return told_by_client(_each_step(case, change), tells)


def _spilled(case: Case, random: Random) -> Case:
    """Most results are too large for a row."""

    def call(one: Call) -> Call:
        return msgspec.structs.replace(one, pad=3000) if random.random() < 0.7 else one

    def change(step: Step) -> Step:
        match step:
            case Call():
                return call(step)
            case FanOut(calls=calls):
                return msgspec.structs.replace(step, calls=tuple(call(one) for one in calls))
            case Race(call=one):
                return msgspec.structs.replace(step, call=call(one))
            case Parallel(branches=branches):
                padded = tuple(
                    tuple(call(one) if isinstance(one, Call) else one for one in branch)
                    for branch in branches
                )
                return msgspec.structs.replace(step, branches=padded)
            case _:
                return step

    return _each_step(_untold(case, random), change)


def _recoverable(case: Case, random: Random) -> Case:
    """Nothing is sent once and for all by an instance: an event to another, or the start of a child nobody awaits."""

    def change(step: Step) -> Step:
        return SetStatus(site=step.site, text="alone") if isinstance(step, Detached) else step

    return _each_step(_untold(case, random), change)


def _overtaken(case: Case, random: Random) -> Case:
    """Events come before the start of their instance, or with it; so do terminations.

    So an instance may have ended before a slower client starts its id, which is allowed: there are no rivals here.
    """
    starts = {action.instance: action.at for action in case.client if isinstance(action, Start)}

    def change(action: ClientAction) -> ClientAction:
        if not isinstance(action, RaiseEvent | Terminate) or random.random() < 0.3:
            return action
        at = max(0.0, round(starts[action.instance] - random.choice((0.0, 0.0, 2.0, 15.0)), 2))
        return msgspec.structs.replace(action, at=at, ahead=True)

    later = tuple(
        msgspec.structs.replace(action, at=action.at + 8.0, rivals=1) if isinstance(action, Start) else action
        for action in case.client
    )
    return msgspec.structs.replace(case, client=tuple(change(action) for action in later))


def _reused(case: Case, random: Random) -> Case:
    """Ids are used again once their instance has ended."""
    doomed = {action.instance for action in case.client if isinstance(action, Terminate)}
    programs = list(case.programs)
    client = list(case.client)
    site = 1000
    for action in case.client:
        if not isinstance(action, Start) or action.instance in doomed or random.random() < 0.2:
            continue
        steps: list[Step] = []
        for _ in range(random.randrange(1, 4)):
            site += 1
            steps.append(
                Pause(site=site, seconds=random.choice((0.5, 5.0)))
                if random.random() < 0.3
                else Call(site=site, arg=site, cost_ms=random.choice((0, 200, 3000)))
            )
        style = random.choice(("async", "generator"))
        programs.append(Program(steps=tuple(steps), generations=random.choice((1, 2)), style=style))
        last = max(other.at for other in case.client if other.instance == action.instance)
        client.append(Again(at=last + 0.1, instance=action.instance, program=len(programs) - 1))
    return msgspec.structs.replace(case, programs=tuple(programs), client=tuple(client))


def _purged(case: Case, random: Random) -> Case:
    """Instances are removed at any time: while they run (which does nothing), and after."""
    client = list(case.client)
    for action in case.client:
        if isinstance(action, Start) and action.rivals == 1:
            for _ in range(2):
                at = round(action.at + random.uniform(0.1, 90), 2)
                client.append(
                    Purge(
                        at=at,
                        instance=action.instance,
                        recursive=random.random() < 0.5,
                        blind=random.random() < 0.5,
                    )
                )
    return msgspec.structs.replace(case, client=tuple(client))


def _parting(case: Case, random: Random) -> Case:
    """Two more instances: one tells the other something in the very turn it ends by continue-as-new."""
    generations = random.choice((2, 3, 4))
    count = len(case.programs)
    steps: tuple[Step, ...] = (Tell(site=951, instance="g1", name="news", value=7),)
    if random.random() < 0.6:
        steps = (Call(site=950, arg=5, cost_ms=random.choice((0, 200, 3000))), *steps)
    waits = Program(steps=(WaitEvents(site=952, name="news", count=generations),))
    programs = (*case.programs, Program(steps=steps, generations=generations), waits)
    at = round(random.uniform(0, 20), 2)
    starts = (
        Start(at=at, instance="g0", program=count),
        Start(at=round(random.uniform(0, 20), 2), instance="g1", program=count + 1),
    )
    return msgspec.structs.replace(case, programs=programs, client=(*case.client, *starts))


def _deadly(case: Case, random: Random) -> Case:
    """One more instance, whose code, or whose activity, ends its worker every time.

    No other activity runs for long: one that is always caught by the end of its worker uses up its own deliveries, and
    fails visibly (docs/reliability.md, known limits).
    """
    case = msgspec.structs.replace(case, programs=tuple(_hurried(program) for program in case.programs))
    deadly: Step = Kill(site=900) if random.random() < 0.5 else Call(site=901, arg=1, kills=True)
    style = random.choice(("async", "generator"))
    steps: tuple[Step, ...] = (Call(site=902, arg=2), deadly) if random.random() < 0.5 else (deadly,)
    programs = (*case.programs, Program(steps=steps, style=style))
    start = Start(at=round(random.uniform(0, 20), 2), instance="k0", program=len(case.programs))
    return msgspec.structs.replace(case, programs=programs, client=(*case.client, start))


def _lethal(case: Case, random: Random) -> Case:
    """One or two more instances whose orchestrators end their worker every time, among many that are innocent.

    Some of these are always due when a partition changes hands: timers and starts, which a new owner's sweep finds
    before anything is delivered to it.
    """
    programs = [_hurried(program) for program in case.programs]
    client = list(case.client)

    def start(instance: str, steps: Sequence[Step], at: float, generations: int = 1) -> None:
        style = random.choice(("async", "generator"))
        programs.append(Program(steps=tuple(steps), generations=generations, style=style))
        client.append(Start(at=round(at, 2), instance=instance, program=len(programs) - 1))

    for number in range(random.choice((1, 1, 2))):
        site = 900 + 10 * number
        before: Sequence[Step] = random.choice(
            (
                (),
                (Call(site=site + 1, arg=2),),
                (Pause(site=site + 2, seconds=random.choice((0.5, 15.0, 40.0))),),
                (WaitTimeout(site=site + 3, name="never", seconds=5.0, value=5),),
            )
        )
        steps: tuple[Step, ...] = (*before, Kill(site=site))
        if random.random() < 0.2:
            programs.append(Program(steps=steps, style=random.choice(("async", "generator"))))
            steps = (SubCall(site=site + 4, program=len(programs) - 1, instance=f"k{number}-c{site + 4}"),)
        start(f"k{number}", steps, random.uniform(0, 20))
    if random.random() < 0.5:
        every_s = random.choice((1.0, 4.0, 15.0))
        for number in range(random.randrange(1, 4)):
            ticks = (Pause(site=950 + number, seconds=every_s),)
            start(f"t{number}", ticks, random.uniform(0, 10), generations=random.randrange(5, 30))
    if random.random() < 0.5:
        at = random.uniform(0, 10)
        for number in range(random.randrange(5, 30)):
            at += random.uniform(0.0, 10.0)
            start(f"s{number}", (Call(site=960 + number, arg=number, cost_ms=random.choice((0, 200))),), at)
    return msgspec.structs.replace(case, programs=tuple(programs), client=tuple(client))


def _hurried(program: Program) -> Program:
    def hurried(call: Call) -> Call:
        return msgspec.structs.replace(call, cost_ms=min(call.cost_ms, 3_000))

    def hurry(step: Step) -> Step:
        match step:
            case Call():
                return hurried(step)
            case FanOut():
                return msgspec.structs.replace(step, calls=tuple(hurried(call) for call in step.calls))
            case Parallel():
                branches = tuple(
                    tuple(hurried(part) if isinstance(part, Call) else part for part in branch)
                    for branch in step.branches
                )
                return msgspec.structs.replace(step, branches=branches)
            case _:
                return step

    return msgspec.structs.replace(program, steps=tuple(hurry(step) for step in program.steps))


def _rewound(case: Case, random: Random) -> Case:
    """What fails before a moment is rewound after it; and any instance is reset, at any time.

    Whatever runs again comes to the same: so no sub-orchestration fails for good, an instance that awaits events never
    fails (events to it would be lost), and one that tells another something is not reset (it would tell it twice).
    """
    doomed = {action.instance for action in case.client if isinstance(action, Terminate)}
    roots = {action.instance: action for action in case.client if isinstance(action, Start)}
    mended = round(random.uniform(5, 70), 2)
    programs = [_sound(program) for program in case.programs]
    client: list[ClientAction] = [
        msgspec.structs.replace(action, rivals=1) if isinstance(action, Start) else action
        for action in case.client
    ]
    for instance, start in roots.items():
        steps = case.programs[start.program].steps
        if instance in doomed:
            continue
        last = max(action.at for action in client if action.instance == instance)
        if not any(isinstance(step, Tell) for step in steps):
            for _ in range(random.choice((0, 1, 1, 2, 3))):
                at = round(start.at + random.choice((random.uniform(0, 10), random.uniform(0, 120))), 2)
                client.append(
                    Reset(at=at, instance=instance, share=random.choice((0.0, random.random(), 0.99)))
                )
                last = max(last, at)
        if not any(isinstance(step, WaitEvents) for step in steps):
            for number in _awaited(programs, start.program):
                programs[number] = _failing(programs[number], mended, random)
            client.append(Rewind(at=max(last, mended) + 0.1, instance=instance))
    return msgspec.structs.replace(case, programs=tuple(programs), client=tuple(client))


def _sound(program: Program) -> Program:
    """Return a program that fails with its sub-orchestrations, and not by itself."""

    def change(step: Step) -> Step:
        match step:
            case SubCall():
                return msgspec.structs.replace(step, caught=False)
            case Raise():
                return SetStatus(site=step.site, text=f"sound {step.site}")
            case _:
                return step

    return msgspec.structs.replace(program, steps=tuple(change(step) for step in program.steps))


def _awaited(programs: Sequence[Program], root: int) -> list[int]:
    """Return a program and all those its sub-orchestrations run."""
    found = [root]
    for number in found:  # grows while it is gone through
        found += [step.program for step in programs[number].steps if isinstance(step, SubCall)]
    return found


def _failing(program: Program, until_s: float, random: Random) -> Program:
    def call(one: Call) -> Call:
        if one.failures or random.random() < 0.5:
            return one
        return msgspec.structs.replace(one, until_s=until_s, attempts=random.choice((1, 1, 2)))

    def change(step: Step) -> Step:
        match step:
            case Call():
                return call(step)
            case FanOut(calls=calls):
                return msgspec.structs.replace(step, calls=tuple(call(one) for one in calls))
            case Race(call=one):
                return msgspec.structs.replace(step, call=call(one))
            case Parallel(branches=branches):
                changed = tuple(
                    tuple(call(one) if isinstance(one, Call) else one for one in branch)
                    for branch in branches
                )
                return msgspec.structs.replace(step, branches=changed)
            case _:
                return step

    return msgspec.structs.replace(program, steps=tuple(change(step) for step in program.steps))


VARIANTS: dict[str, Callable[[Case, Random], Case]] = {
    "untold": _untold,
    "spilled": _spilled,
    "recoverable": _recoverable,
    "overtaken": _overtaken,
    "reused": _reused,
    "purged": _purged,
    "deadly": _deadly,
    "lethal": _lethal,
    "parting": _parting,
    "rewound": _rewound,
}
