"""Compares tunemesh with other systems, on the same data and the same machine."""
