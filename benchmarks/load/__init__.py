"""A hub under load for minutes: what waits, for how long, and the memory of the process that is client and worker."""
