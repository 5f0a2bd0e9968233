"""The bootstrap beside DuckDB: the same products in, the same CSV out."""
