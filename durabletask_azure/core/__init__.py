"""The pure core: decides everything, touches nothing (no I/O, clock, threads or randomness)."""
