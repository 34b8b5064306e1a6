"""A pytest plugin that runs the SDK's tests against an emulator, one in each test process.

The SDK is not changed. Names of the namespace lead to the emulator because `socket.getaddrinfo` says so, and its
certificate is trusted because the environment names its authority.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

import certifi
import pytest
import trustme

from durabletask_azure.emulator.broker.settings import Policy
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings
from tests.emulator.conformance.stand_ins import HOST, KEY, POLICY, SUFFIX, World, install

BOOK: Final = Path(__file__).with_name("book.toml")
LONG: Final = ("schedule", "github_issue_6178", "release_messages", "session_pool", "autolockrenew", "expiry")
AMQPS: Final = 5671
HTTPS: Final = 443


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for tests that take long."""
    parser.addoption(
        "--slow", action="store_true", help="only the slow tests of book.toml; else only the others"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start an emulator, unless this process only hands out tests to others."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return
    folder = tempfile.mkdtemp(prefix="conformance-")
    authority = trustme.CA()
    bundle = Path(folder, "authority.pem")
    authority.cert_pem.write_to_path(str(bundle))
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        os.environ[name] = str(bundle)
    certifi.where = lambda: str(bundle)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert(f"*{SUFFIX}")
    with certificate.private_key_and_cert_chain_pem.tempfile() as chain:
        tls.load_cert_chain(chain)
    policies = {POLICY: Policy(POLICY, KEY)}
    emulator = RunningEmulator(
        ServerSettings(
            port=0, tls_port=0, admin_port=0, tls=tls, credentials=Credentials(policies, accept_tokens=True)
        )
    ).start()
    config.add_cleanup(emulator.stop)
    redirect(emulator.server.tls_port, emulator.server.admin_tls_port)
    install(World(emulator, policies))


def redirect(amqps: int, https: int) -> None:
    """Let the name of the namespace lead to the emulator, and other names of Azure nowhere."""
    original = socket.getaddrinfo
    ports = {AMQPS: amqps, HTTPS: https}

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name == HOST:
            return original("127.0.0.1", ports.get(int(port), int(port)), *args, **options)
        if isinstance(name, str) and name.endswith(SUFFIX):
            raise socket.gaierror(socket.EAI_NONAME, "the test has no such namespace")
        return original(host, port, *args, **options)

    socket.getaddrinfo = getaddrinfo


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the book says, and mark what it repairs."""
    book = tomllib.loads(BOOK.read_text(encoding="utf-8"))
    repaired = {each["test"] for each in book["repairs"]}
    kept: list[pytest.Item] = []
    for item in items:
        name = f"{item.path.name}::{item.name.partition('[')[0]}"
        exact = f"{item.path.name}::{item.name}"
        is_slow = name in book["slow"]
        if is_slow != bool(config.getoption("--slow")):
            continue
        reason = book["excluded"].get(exact) or book["excluded"].get(name)
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"excluded: {reason}"))
        if name in repaired:
            item.user_properties.append(("repaired", name))
        kept.append(item)
    # Those that wait for minutes first, so that none of them is left for the end.
    items[:] = sorted(kept, key=lambda item: not any(word in item.name for word in LONG))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests ran, passed and are excluded."""
    stats = terminalreporter.stats
    skipped = stats.get("skipped", [])
    excluded = [report for report in skipped if "excluded: " in str(report.longrepr)]
    # The SDK marks some tests as failing now and then; one that passes anyway has passed.
    good = [*stats.get("passed", []), *stats.get("xpassed", [])]
    passed = len(good)
    repaired = sum(1 for report in good if dict(report.user_properties).get("repaired"))
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    terminalreporter.write_line(
        f"conformance: run {passed + failed}, passed {passed} ({repaired} of them repaired), failed {failed},"
        f" failed as the SDK expects {len(stats.get('xfailed', []))}, excluded {len(excluded)},"
        f" skipped by the SDK itself {len(skipped) - len(excluded)}"
    )
