"""Freshness: an event passes once the users and items published before it have been read.

``watermark`` is exact and knows only offsets; ``settling`` estimates when a record that was read is
in the joins' state; ``stalls`` says when to stop waiting; ``watch`` runs all three on a thread.
"""
