"""The files for containers: valid, in step with the settings they were made from, and naming what is there.

No Docker engine runs here. What the containers do is shown in `test_microsofts_emulator.py`, with the emulator of this
package held to the limits of Microsoft's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import AzureSettings, Settings
from durabletask_azure.emulator.config import read_config
from durabletask_azure.emulator_config import emulator_config, main
from durabletask_azure.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "containers" / "Config.json"
HUB = ROOT / "containers" / "hub.toml"
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
EMULATOR = "Endpoint=sb://localhost;SharedAccessKeyName=p;SharedAccessKey=k;UseDevelopmentEmulator=true;"


def tool(name: str, *arguments: str | Path) -> None:
    """Run a tool of the environment; it has nothing to say."""
    command = [Path(sys.executable).with_name(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr


def settings(**options: Any) -> AzureSettings:
    return AzureSettings(service_bus=EMULATOR, storage="UseDevelopmentStorage=true", hub="orders", **options)


def properties(text: str) -> dict[str, dict[str, Any]]:
    (namespace,) = json.loads(text)["UserConfig"]["Namespaces"]
    return {queue["Name"]: queue["Properties"] for queue in namespace["Queues"]}


def test_the_compose_file_is_one() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    tool("hadolint", "--failure-threshold", "style", DOCKERFILE)


def test_config_json_is_what_the_hub_s_settings_make(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(HUB)]) == 0
    assert capsys.readouterr().out == CONFIG.read_text(encoding="utf-8"), "run `make emulator-config`"


def test_the_emulator_takes_config_json() -> None:
    queues = {queue.name: queue for queue in read_config(CONFIG)}
    assert {name: queue.requires_sessions for name, queue in queues.items()} == {
        "compose-orchestrations": True,
        "compose-activities": False,
    }
    for queue in queues.values():
        assert (queue.ttl_s, queue.duplicates_s, queue.deliveries_max) == (3600, 300, 10)
        assert queue.dead_letters_expired


def test_every_queue_of_a_hub_is_in_the_file() -> None:
    hub = settings(
        activity_groups={"gpu": ["render"], "mail": ["send"]}, lock_duration_s=5, max_delivery_count=3
    )

    made = properties(emulator_config(hub))

    assert list(made) == [
        "orders-orchestrations",
        "orders-activities",
        "orders-activities-gpu",
        "orders-activities-mail",
    ]
    assert {(each["LockDuration"], each["MaxDeliveryCount"]) for each in made.values()} == {("PT5S", 3)}
    assert [each["RequiresSession"] for each in made.values()] == [True, False, False, False]


def test_what_is_not_said_is_the_longest_the_emulator_takes() -> None:
    made = properties(emulator_config(settings(duplicate_window_s=None)))["orders-activities"]

    assert made["DefaultMessageTimeToLive"] == "PT1H"
    assert not made["RequiresDuplicateDetection"]
    assert made["LockDuration"] == "PT30S"


@pytest.mark.parametrize(
    ("option", "value", "most"),
    [
        ("max_delivery_count", 11, "10"),
        ("duplicate_window_s", 301.0, "300"),
        ("time_to_live_s", 7200.0, "3600"),
        ("activity_groups", {f"g{number}": [f"a{number}"] for number in range(49)}, "48"),
    ],
)
def test_what_the_emulator_does_not_take_is_refused(option: str, value: object, most: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option} must be at most {most} on Microsoft's emulator"):
        emulator_config(settings(**{option: value}))


def test_the_command_writes_a_file_and_tells_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "Config.json"
    assert main([str(HUB), "--output", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == CONFIG.read_text(encoding="utf-8")

    assert main([str(tmp_path / "none.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_the_image_copies_what_is_there_and_nothing_it_ignores() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    let_in = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in let_in), source


def test_the_image_is_not_root_and_gets_signals_itself() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    (entry,) = [line.partition(" ")[2] for line in lines if line.startswith("ENTRYPOINT")]
    assert int(user) > 0
    assert json.loads(entry) == ["python", "-m", "containers.worker"]


def test_a_container_has_longer_to_stop_than_a_worker_takes() -> None:
    (seconds,) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE.read_text(encoding="utf-8"))
    assert int(seconds) > Settings().stop_grace_s
