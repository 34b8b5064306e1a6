"""`python -m durabletask_azure.emulator`: run the emulator until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from durabletask_azure.emulator.broker.namespace import QueueExistsError
from durabletask_azure.emulator.broker.settings import Policy, QueueSettings
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.config import ConfigError, read_config
from durabletask_azure.emulator.persistence import StoreError
from durabletask_azure.emulator.server import Emulator, ServerSettings

logger = logging.getLogger("durabletask_azure.emulator")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        queues = read_config(options.config) if options.config else []
        settings = _settings(options)
        asyncio.run(_run(settings, queues))
    except (ConfigError, StoreError, OSError, ssl.SSLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m durabletask_azure.emulator",
        description="A Service Bus emulator for machines without Docker. Connect with UseDevelopmentEmulator=true.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=5672, help="for AMQP; 0 picks a free one (default %(default)s)"
    )
    parser.add_argument(
        "--admin-port",
        type=_port,
        default=5300,
        help="for the administration API and /health; 0 picks a free one (default %(default)s)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="queues to begin with, in Microsoft's Config.json"
    )
    parser.add_argument("--persist", default="", metavar="FILE", help="keep everything in this SQLite file")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="POLICY=KEY",
        help="check signatures of this policy with this key; may be given again (default: every signature is good)",
    )
    parser.add_argument("--accept-tokens", action="store_true", help="take token credentials, unchecked")
    parser.add_argument("--tls-cert", metavar="FILE", help="a certificate (PEM), for AMQP over TLS as well")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, if it is in a file of its own")
    parser.add_argument(
        "--tls-port",
        type=_port,
        default=5671,
        help="for AMQP over TLS; 0 picks a free one (default %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="log every connection and request")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {text!r}")
    return int(text)


def _settings(options: argparse.Namespace) -> ServerSettings:
    policies: dict[str, Policy] = {}
    for pair in options.key:
        name, found, key = str(pair).partition("=")
        if not found or not name or not key:
            raise ConfigError(f"--key is POLICY=KEY, not {pair!r}")
        policies[name] = Policy(name, key)
    tls = None
    if options.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
    return ServerSettings(
        host=options.host,
        port=options.port,
        tls_port=options.tls_port,
        admin_port=options.admin_port,
        tls=tls,
        persist=options.persist,
        credentials=Credentials(policies, options.accept_tokens),
    )


async def _run(settings: ServerSettings, queues: list[QueueSettings]) -> None:
    emulator = Emulator(settings)
    for queue in queues:
        # One that was kept from the last run stays as it is.
        with contextlib.suppress(QueueExistsError):
            emulator.namespace.create(queue)
    await emulator.start()
    emulator.changed()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        # Windows has no signal handlers in loops; Ctrl-C ends `asyncio.run` there.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
    print(f"AMQP on {settings.host}:{emulator.port}", flush=True)
    if settings.tls is not None:
        print(f"AMQP over TLS on {settings.host}:{emulator.tls_port}", flush=True)
        print(f"Administration over TLS on {settings.host}:{emulator.admin_tls_port}", flush=True)
    print(f"Administration on {settings.host}:{emulator.admin_port}", flush=True)
    print(
        f"Endpoint=sb://{settings.host}:{emulator.port};SharedAccessKeyName=RootManageSharedAccessKey;"
        "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;",
        flush=True,
    )
    logger.info("ready with %d queues", len(emulator.namespace.entries()))
    await stopping.wait()
    logger.info("stopping")
    await emulator.stop()


if __name__ == "__main__":
    sys.exit(main())
