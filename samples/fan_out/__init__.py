"""Many activities at once, and what to do when some fail."""
