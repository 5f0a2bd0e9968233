"""Compile, hold and submit an application's plan."""
