"""What every test shares: the services of Azure, the plugin that keeps the book of behaviours, and hearing Ctrl-C."""

from __future__ import annotations

import signal

pytest_plugins = ["tests.azure_services", "tests.behaviour_book"]

# Whoever starts the tests may ignore Ctrl-C (`&` of a script). New programs inherit what is ignored, and forget what is
# handled: so that tests can interrupt what they start, it is handled here.
signal.signal(signal.SIGINT, signal.default_int_handler)
