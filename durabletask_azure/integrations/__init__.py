"""Ties to other packages, one module each; none is imported unless a program does."""
