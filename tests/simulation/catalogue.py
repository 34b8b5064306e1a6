"""Where each fault of the catalogue is injected, and the table that says how often it struck."""

from __future__ import annotations

from collections import Counter

__all__ = ["WHERE", "fault_table"]

WHERE: dict[str, str] = {
    "F1": "crash before a commit: crashes, mixed and others; every port call in test_every_crash",
    "F2": "crash after a commit, before its sends: as F1",
    "F3": "k of n messages sent, with and without a crash: crashes, sends, duplicates, partings, tight",
    "F4": "crash between send and completion: crashes, settles, sends",
    "F5": "commit landed, reply lost: replies, reuse, tight, mixed",
    "F6": "commit not landed, reply lost: replies, reuse, tight, mixed",
    "F7": "commit landed, a retry answers 412: landed, replies, reuse, tight, mixed",
    "F8": "owner stalls past its lock, then commits: stalls, staging, clocks, tight, mixed",
    "F9": "owner stalls between commit and sends: stalls, staging, clocks, tight, mixed",
    "F10": "a worker stands still while another takes over: stalls, staging, clocks, tight, mixed",
    "F11": "duplicates up to 10 min late, no duplicate detection: duplicates, reuse, purges, mixed",
    "F12": "delays, messages held back, replies that crawl: delays, overtakes, stops, mixed",
    "F13": "settlement lost, or after the lock: settles, replies, mixed",
    "F14": "messages locked by a receive whose reply is lost: replies, swallow, mixed",
    "F15": "receive or accept cut off: replies, bus, mixed",
    "F16": "renewal fails, or a task outlives its lock: replies, stalls, crashes, mixed",
    "F17": "crash around an activity's result: crashes, settles, sends",
    "F18": "messages for another execution: counted on delivery, all profiles",
    "F19": "events and terminations with or before the start: overtakes",
    "F20": "events in the turn of a continue-as-new: counted in the histories, all profiles; crash: F1 to F4",
    "F21": "rival starts (all profiles); ids used again under late messages: reuse",
    "F22": "clocks up to 5 min off, and jumping: clocks, mixed",
    "F23": "crash between the parts of a staged commit: staging, tight",
    "F24": "blob lost or damaged: payloads; uploaded and never committed: collected after every run that left one",
    "F25": "429 and 503, Retry-After, storage or bus away: throttling, storage, bus, mixed",
    "F26": "queues full: bus, sends, tight, mixed; test_limits",
    "F27": "one worker cut off from storage or bus: storage, bus, mixed",
    "F28": "undecodable messages and tasks: poison; undecodable rows: rows",
    "F29": "a worker without the code for a while: rollback",
    "F30": "an orchestrator or activity that kills its worker every time: killers, uncounted",
    "F31": "graceful stop, also twice: stops, restarts, crashes, mixed",
    "F32": "all workers restarted in turn, versions mixed: stops, rollback",
    "F33": "purge at any time, copies of old messages after it: purges, duplicates",
    "F35": "queue made anew: recreated (timers and starts lost), failover (all lost, then repair)",
    "F36": "messages swallowed while the session is kept: swallow, mixed",
    "F37": "a commit that never returns while renewals go on: wedged",
    "F38": "event or termination for an instance not yet there: overtakes; counted on delivery, all profiles",
}
"""F34, random kills under load for long, is the torture run's."""


def fault_table(counts: Counter[str]) -> str:
    """Return one line per fault: number, how often, where; what belongs to no number comes last."""
    lines = [f"| {number} | {counts[number]:,} | {where} |" for number, where in WHERE.items()]
    others = [f"{name} {count:,}" for name, count in sorted(counts.items()) if name not in WHERE]
    return "\n".join(
        ["| fault | struck | where |", "|---|---:|---|", *lines, "", "besides: " + ", ".join(others)]
    )
