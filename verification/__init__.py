"""Publishes known input and reconciles every record with every destination."""
