"""What the bytes mean: contracts, wire format, schema registry and the records made from them.

Nothing here imports pyflink, and only :mod:`schemas.registry` talks to a network.
"""
