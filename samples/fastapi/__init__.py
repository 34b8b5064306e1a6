"""A web application with a task hub."""
