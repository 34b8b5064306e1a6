"""The sides of a hub that touch the outside: each package here implements the ports on one kind of service."""
