"""Runs the system: servers on one machine, the release package, upgrades, dead letters."""
