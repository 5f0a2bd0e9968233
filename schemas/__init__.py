"""Defines records: contracts, wire format, codec, compatibility rules, dead letters. Pure.

Nothing here imports pyflink or boto3.
"""
