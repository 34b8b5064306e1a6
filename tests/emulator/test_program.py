"""`python -m durabletask_azure.emulator`: its options, what it prints, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from azure.core.credentials import AccessToken
from azure.servicebus import ServiceBusClient, ServiceBusMessage, TransportType
from azure.servicebus.exceptions import ServiceBusAuthenticationError, ServiceBusConnectionError

from tests.emulator.program import CONFIG, Process

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_the_program_answers_says_where_it_listens_and_ends_on_a_signal(tmp_path: Path) -> None:
    config = tmp_path / "Config.json"
    config.write_text(CONFIG)
    emulator = Process("--port", "0", "--admin-port", "0", "--config", str(config))
    with urlopen(f"http://127.0.0.1:{emulator.admin_port}/health") as answer:
        assert b'"healthy"' in answer.read()
    assert emulator.end(signal.SIGINT if os.name == "posix" else signal.SIGTERM) == 0


class Tokens:
    """A credential of any identity service."""

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken("a-token", int(time.time()) + 3600)


def test_over_tls_with_a_given_certificate_token_credentials_are_taken_only_if_it_is_told_to(
    tmp_path: Path,
) -> None:
    authority, chain = trustme.CA(), tmp_path / "chain.pem"
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "Config.json").write_text(CONFIG)
    options = ["--port", "0", "--admin-port", "0", "--tls-port", "0", "--host", "localhost"]
    options += ["--tls-cert", str(chain), "--tls-key", str(tmp_path / "key.pem")]
    options += ["--config", str(tmp_path / "Config.json"), "--key", "Root=right"]
    for more, is_taken in ([], False), (["--accept-tokens"], True):
        emulator = Process(*options, *more)
        try:
            with (
                ServiceBusClient(
                    "localhost",
                    Tokens(),
                    custom_endpoint_address=f"sb://localhost:{emulator.tls_port}",
                    transport_type=TransportType.Amqp,
                    connection_verify=str(tmp_path / "ca.pem"),
                    retry_total=0,
                ) as client,
                # With an endpoint of one's own, the SDK makes a connection's error of a refused claim.
                nullcontext() if is_taken else pytest.raises(ServiceBusConnectionError),
                client.get_queue_sender("load") as sender,
            ):
                sender.send_messages(ServiceBusMessage("a"))
        finally:
            assert emulator.end(signal.SIGTERM) == 0


def test_the_log_says_what_was_refused_and_why_and_with_verbose_every_request(tmp_path: Path) -> None:
    logs: list[str] = []
    for verbose in ([], ["--verbose"]):
        with (tmp_path / "log").open("w+") as log:
            emulator = Process("--port", "0", "--admin-port", "0", *verbose, log=log)
            with urlopen(f"http://127.0.0.1:{emulator.admin_port}/health"):
                pass
            with (
                ServiceBusClient.from_connection_string(emulator.connection_string, retry_total=0) as client,
                pytest.raises(ServiceBusAuthenticationError),
                client.get_queue_sender("nowhere"),
            ):
                pass
            emulator.end(signal.SIGTERM)
            log.seek(0)
            logs.append(log.read())
    quiet, verbose_log = logs
    for text in logs:
        assert "INFO ready with 0 queues" in text
        assert "nowhere" in text
        assert "INFO stopping" in text
        assert "SAS_KEY_VALUE" not in text
    assert "DEBUG" not in quiet
    assert "DEBUG GET /health: 200" in verbose_log


def test_help_names_every_option() -> None:
    command = [sys.executable, "-m", "durabletask_azure.emulator", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    options = ("--host", "--port", "--admin-port", "--config", "--persist", "--key", "--accept-tokens")
    for option in (*options, "--tls-cert", "--tls-key", "--tls-port", "--verbose", "--help"):
        assert option in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "a port is 0 to 65535"),
        (["--config", "nowhere.json"], "nowhere.json cannot be read"),
        (["--key", "only-a-name"], "--key is POLICY=KEY"),
    ],
)
def test_wrong_options_are_told(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "durabletask_azure.emulator", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert ended.returncode != 0
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
