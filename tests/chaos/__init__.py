"""Runs that are killed over and over, and compared with one that was not."""
