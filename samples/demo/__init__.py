"""The demo: durable orchestrations in several processes, one of which is killed."""
