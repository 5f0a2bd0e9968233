"""Micro-batches between the SQL and the delivery functions, as text.

A batch goes in as the pieces of its records, one after the other, as LISTAGG joins them
(:mod:`jobs.micro_batch.piece`). The records that it leaves over come out as texts that the SQL cuts
(:mod:`jobs.micro_batch.left_over`). Text is Latin-1, one character a byte.

Arrays of rows would be the obvious way, in and out. In Flink 2.2.1 ARRAY_AGG over a
processing-time window and the converter of a Python function's result (thread mode) both use one
row again for all elements: what went in came out as its last element many times.
"""
