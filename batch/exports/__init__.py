"""Exports: a domain's store to its data product.

records          users and items: partitions of a store, read concurrently, checked, written
postgresql       the store of the users: ranges of the key over one snapshot
dynamodb         the stores of the items: segments of a scan
point_in_time    the same stores on AWS: the files of ExportTableToPointInTime
interactions     what Firehose has written: deduplicated, by event day
publication      the end of every export: too many rejected rows, or published
"""
