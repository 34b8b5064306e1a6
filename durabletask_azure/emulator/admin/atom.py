"""Queues in Atom, as ServiceBusAdministrationClient writes and reads them.

The element names are those of the SDK's `management/_generated/models/_models.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree

from durabletask_azure.emulator.broker.browse import Counts
from durabletask_azure.emulator.broker.namespace import Entry
from durabletask_azure.emulator.broker.settings import ALL_RIGHTS, Policy, QueueSettings, SettingsError
from durabletask_azure.emulator.durations import format_duration, parse_duration

ATOM: Final = "http://www.w3.org/2005/Atom"
SERVICE_BUS: Final = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
COUNTS: Final = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"

_DURATIONS: Final = {
    "LockDuration": "lock_s",
    "DefaultMessageTimeToLive": "ttl_s",
    "DuplicateDetectionHistoryTimeWindow": "duplicates_s",
    "AutoDeleteOnIdle": "idle_delete_s",
}
_BOOLEANS: Final = {
    "RequiresDuplicateDetection": "detects_duplicates",
    "RequiresSession": "requires_sessions",
    "DeadLetteringOnMessageExpiration": "dead_letters_expired",
    "EnableBatchedOperations": "batched_operations",
    "EnablePartitioning": "partitioned",
    "EnableExpress": "express",
}
_NUMBERS: Final = {"MaxSizeInMegabytes": "size_mb_max", "MaxDeliveryCount": "deliveries_max"}
_TEXTS: Final = {
    "Status": "status",
    "ForwardTo": "forward_to",
    "ForwardDeadLetteredMessagesTo": "forward_dead_letters_to",
    "UserMetadata": "user_metadata",
}


def read_description(body: bytes, name: str) -> QueueSettings:
    """Read the settings of a queue from the body of a request.

    Raises:
        SettingsError: it is not XML, or a value is not allowed.
    """
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise SettingsError("the body may not define entities")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  (entities are refused above)
    except ElementTree.ParseError as error:
        raise SettingsError(f"the body is not XML: {error}") from error
    description = root.find(f".//{{{SERVICE_BUS}}}QueueDescription")
    if description is None:
        raise SettingsError("the body describes no queue; the emulator has no topics, subscriptions or rules")
    settings = QueueSettings(name)
    for element in description:
        tag = element.tag.rpartition("}")[2]
        if tag == "AuthorizationRules":
            settings = replace(settings, policies=tuple([_policy(rule) for rule in element]))
        elif tag == "MaxMessageSizeInKilobytes" and element.text:
            raise SettingsError("MaxMessageSizeInKilobytes is for Premium namespaces only, which this is not")
        elif element.text and element.text.strip():
            settings = _with(settings, tag, element.text.strip())
    return settings


def _with(settings: QueueSettings, tag: str, text: str) -> QueueSettings:
    try:
        if tag in _DURATIONS:
            return replace(settings, **{_DURATIONS[tag]: parse_duration(text)})
        if tag in _BOOLEANS:
            return replace(settings, **{_BOOLEANS[tag]: text.casefold() == "true"})
        if tag in _NUMBERS:
            return replace(settings, **{_NUMBERS[tag]: int(text)})
        if tag in _TEXTS:
            return replace(settings, **{_TEXTS[tag]: text})
    except ValueError as error:
        raise SettingsError(f"{tag}: {error}") from error
    return settings


def _policy(rule: ElementTree.Element) -> Policy:
    rights = tuple([right.text or "" for right in rule.iter(f"{{{SERVICE_BUS}}}AccessRights")])
    unknown = [right for right in rights if right not in ALL_RIGHTS]
    if unknown or not rights:
        raise SettingsError(f"a policy has one or more of the rights {', '.join(ALL_RIGHTS)}, not {unknown}")

    def part(tag: str) -> str:
        return rule.findtext(f"{{{SERVICE_BUS}}}{tag}", default="")

    return Policy(part("KeyName"), part("PrimaryKey"), rights, part("SecondaryKey"))


def _write_policy(parent: ElementTree.Element, policy: Policy, entry: Entry) -> None:
    rule = _add(parent, SERVICE_BUS, "AuthorizationRule", None)
    rule.set(f"{{{INSTANCE}}}type", "SharedAccessAuthorizationRule")
    _add(rule, SERVICE_BUS, "ClaimType", "SharedAccessKey")
    _add(rule, SERVICE_BUS, "ClaimValue", "None")
    rights = _add(rule, SERVICE_BUS, "Rights", None)
    for right in policy.rights:
        _add(rights, SERVICE_BUS, "AccessRights", right)
    _add(rule, SERVICE_BUS, "CreatedTime", _time(entry.created_at))
    _add(rule, SERVICE_BUS, "ModifiedTime", _time(entry.updated_at))
    _add(rule, SERVICE_BUS, "KeyName", policy.name)
    _add(rule, SERVICE_BUS, "PrimaryKey", policy.key)
    _add(rule, SERVICE_BUS, "SecondaryKey", policy.secondary_key)


def write_entry(entry: Entry, counts: Counts, base: str) -> bytes:
    """Write one queue."""
    return ElementTree.tostring(_entry(entry, counts, base), encoding="utf-8", xml_declaration=True)


def write_feed(title: str, queues: list[tuple[Entry, Counts]], base: str, next_link: str = "") -> bytes:
    """Write a list of queues, with a link to the next part if there is one."""
    feed = ElementTree.Element(f"{{{ATOM}}}feed")
    _add(feed, ATOM, "title", title).set("type", "text")
    _add(feed, ATOM, "id", base)
    _add(feed, ATOM, "updated", _time(0.0))
    link = _add(feed, ATOM, "link", None)
    link.set("rel", "self")
    link.set("href", base)
    if next_link:
        link = _add(feed, ATOM, "link", None)
        link.set("rel", "next")
        link.set("href", next_link)
    for entry, counts in queues:
        feed.append(_entry(entry, counts, base))
    return ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)


def write_error(code: int, detail: str) -> bytes:
    """Write an error."""
    root = ElementTree.Element("Error")
    ElementTree.SubElement(root, "Code").text = str(code)
    ElementTree.SubElement(root, "Detail").text = detail
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _entry(entry: Entry, counts: Counts, base: str) -> ElementTree.Element:
    name = entry.queue.settings.name
    root = ElementTree.Element(f"{{{ATOM}}}entry")
    _add(root, ATOM, "id", f"{base}/{name}")
    _add(root, ATOM, "title", name).set("type", "text")
    _add(root, ATOM, "published", _time(entry.created_at))
    _add(root, ATOM, "updated", _time(entry.updated_at))
    author = _add(root, ATOM, "author", None)
    _add(author, ATOM, "name", "servicebus-emulator")
    content = _add(root, ATOM, "content", None)
    content.set("type", "application/xml")
    content.append(_description(entry, counts))
    return root


def _description(entry: Entry, counts: Counts) -> ElementTree.Element:
    settings = entry.queue.settings
    root = ElementTree.Element(f"{{{SERVICE_BUS}}}QueueDescription")
    for tag, field in _DURATIONS.items():
        _add(root, SERVICE_BUS, tag, format_duration(getattr(settings, field)))
    for tag, field in _BOOLEANS.items():
        _add(root, SERVICE_BUS, tag, "true" if getattr(settings, field) else "false")
    for tag, field in _NUMBERS.items():
        _add(root, SERVICE_BUS, tag, str(getattr(settings, field)))
    for tag, field in _TEXTS.items():
        if getattr(settings, field):
            _add(root, SERVICE_BUS, tag, getattr(settings, field))
    _add(root, SERVICE_BUS, "SizeInBytes", str(entry.queue.usage.size_bytes))
    _add(root, SERVICE_BUS, "MessageCount", str(counts.active + counts.scheduled + counts.dead_letters))
    _add(root, SERVICE_BUS, "IsAnonymousAccessible", "false")
    rules = _add(root, SERVICE_BUS, "AuthorizationRules", None)
    for policy in settings.policies:
        _write_policy(rules, policy, entry)
    _add(root, SERVICE_BUS, "CreatedAt", _time(entry.created_at))
    _add(root, SERVICE_BUS, "UpdatedAt", _time(entry.updated_at))
    _add(root, SERVICE_BUS, "AccessedAt", _time(entry.queue.accessed_at))
    _add(root, SERVICE_BUS, "SupportOrdering", "true")
    details = _add(root, SERVICE_BUS, "CountDetails", None)
    _add(details, COUNTS, "ActiveMessageCount", str(counts.active))
    _add(details, COUNTS, "DeadLetterMessageCount", str(counts.dead_letters))
    _add(details, COUNTS, "ScheduledMessageCount", str(counts.scheduled))
    _add(details, COUNTS, "TransferDeadLetterMessageCount", "0")
    _add(details, COUNTS, "TransferMessageCount", "0")
    _add(root, SERVICE_BUS, "EntityAvailabilityStatus", "Available")
    return root


def _add(parent: ElementTree.Element, namespace: str, tag: str, text: str | None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, f"{{{namespace}}}{tag}")
    element.text = text
    return element


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
