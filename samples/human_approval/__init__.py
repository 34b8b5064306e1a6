"""Waiting for a human, but not for ever."""
