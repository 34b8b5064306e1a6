"""What every test shares: the services of Azure, and the plugin that keeps the book of behaviours."""

pytest_plugins = ["tests.azure_services", "tests.behaviour_book"]
