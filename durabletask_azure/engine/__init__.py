"""The async shell: awaits ports, executes the core's plans, decides nothing."""
