"""The demos: the stream, the bootstrap, upgrades under load."""
