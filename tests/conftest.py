"""What every test shares: the plugin that keeps the book of behaviours."""

pytest_plugins = ["tests.behaviour_book"]
