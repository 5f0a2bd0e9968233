"""Producing and accounting: what was sent, and whether it all arrived as it should."""
