"""The smallest orchestration."""
