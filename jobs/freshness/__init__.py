"""Freshness: an event passes once the users and items published before it have been read.

``watermark`` and ``gaps`` are exact and know only offsets; ``settling`` estimates when a record is
in the joins' state; ``stalls`` says when to stop waiting; ``watch`` runs all of them on
a thread.
"""
