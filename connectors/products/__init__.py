"""Data products on S3: typed Parquet, published as a whole, with a manifest.

    versions/<version>/part-NNNNN.parquet     the rows; interactions: below event_day=YYYY-MM-DD/
    versions/<version>/manifest.json          files with rows, bytes and sha256; columns; counts
    versions/<version>/rejected.ndjson        rows that did not fit the contract, if there were any
    current.json                              the version that readers read

location   where a product is and how its objects are named
columns    the fields of a contract as columns
manifest   what a version consists of, which one is the current one
arrow      columns as a pyarrow schema
writer     opens a version, writes it, publishes or abandons it
reader     reads a version

The first three need neither pyarrow nor a version under way: the bootstrap's package has only them.
"""
