"""The ``Config.json`` of Microsoft's Service Bus emulator for a hub: `python -m durabletask_azure.emulator_config`.

That emulator has the queues its file names, within limits of its own. The file is made from the hub's settings, so that
queues and settings agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from durabletask_azure.azure_settings import AzureSettings
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.targets import HubNames

__all__ = ["emulator_config", "main"]

NAMESPACE: Final = "sbemulatorns"
"""The only name of a namespace that the emulator takes."""

DELIVERY_COUNT_MAX: Final = 10
DUPLICATE_WINDOW_S_MAX: Final = 300.0
TIME_TO_LIVE_S_MAX: Final = 3600.0
QUEUES_MAX: Final = 50


def emulator_config(settings: AzureSettings) -> str:
    """Return the file's text for a hub; the same for the same settings.

    Raises:
        ConfigurationError: a setting is outside what the emulator takes; the message says what it takes.
    """
    names = HubNames(hub=settings.hub)
    _check("max_delivery_count", settings.max_delivery_count, DELIVERY_COUNT_MAX)
    _check("duplicate_window_s", settings.duplicate_window_s, DUPLICATE_WINDOW_S_MAX)
    _check("time_to_live_s", settings.time_to_live_s, TIME_TO_LIVE_S_MAX)
    activities = [
        names.activities(),
        *(names.activities(group) for group in sorted(settings.activity_groups)),
    ]
    _check("activity_groups", len(activities) - 1, QUEUES_MAX - 2)
    queues = [_queue(names.orchestrations, settings, sessions=True)]
    queues += [_queue(name, settings, sessions=False) for name in activities]
    config = {
        "UserConfig": {
            "Namespaces": [{"Name": NAMESPACE, "Queues": queues, "Topics": []}],
            "Logging": {"Type": "Console"},
        }
    }
    return json.dumps(config, indent=2) + "\n"


def _check(option: str, value: float | None, most: float) -> None:
    if value is not None and value > most:
        raise ConfigurationError(f"{option} must be at most {most:g} on Microsoft's emulator, not {value:g}")


def _queue(name: str, settings: AzureSettings, *, sessions: bool) -> dict[str, Any]:
    window_s = settings.duplicate_window_s
    time_to_live_s = TIME_TO_LIVE_S_MAX if settings.time_to_live_s is None else settings.time_to_live_s
    properties: dict[str, Any] = {
        "DeadLetteringOnMessageExpiration": True,
        "DefaultMessageTimeToLive": _duration(time_to_live_s),
        # It wants one even where duplicates are not looked for.
        "DuplicateDetectionHistoryTimeWindow": _duration(
            DUPLICATE_WINDOW_S_MAX if window_s is None else window_s
        ),
        "ForwardDeadLetteredMessagesTo": "",
        "ForwardTo": "",
        "LockDuration": _duration(settings.lock_s),
        "MaxDeliveryCount": settings.max_delivery_count,
        "RequiresDuplicateDetection": window_s is not None,
        "RequiresSession": sessions,
    }
    return {"Name": name, "Properties": properties}


def _duration(seconds: float) -> str:
    """Return seconds as ISO 8601 has them, in the largest unit that fits: the form of the emulator's own samples."""
    for unit_s, unit in ((3600, "H"), (60, "M")):
        if seconds % unit_s == 0:
            return f"PT{seconds // unit_s:g}{unit}"
    return f"PT{seconds:g}S"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the file; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m durabletask_azure.emulator_config",
        description="Make the Config.json of Microsoft's Service Bus emulator from a hub's settings.",
    )
    parser.add_argument(
        "settings",
        type=Path,
        nargs="?",
        help="a TOML file with the table [azure] (default: the DURABLETASK_ variables of the environment)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: print it)")
    options = parser.parse_args(arguments)
    try:
        settings = AzureSettings.from_file(options.settings) if options.settings else AzureSettings.from_env()
        text = emulator_config(settings)
        if options.output:
            options.output.write_text(text, encoding="utf-8")
        else:
            print(text, end="")
    except (ConfigurationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
