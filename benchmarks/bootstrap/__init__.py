"""Compares the bootstrap with DuckDB: from the same products to the same CSV."""
