"""Freshness: an event passes once the users and items published before it have been read."""
