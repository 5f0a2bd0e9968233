"""Amazon Data Firehose as a destination: PutRecordBatch, newline-delimited JSON.

requests         document -> record of a call, with every limit checked before it is sent
classification   the service's answer, for the call and for each record of it -> outcome
destination      both together, as a destination of the sink engine
"""

from __future__ import annotations

from connectors.firehose.destination import (
    FirehoseDestination,
    FirehoseSettings,
    firehose_destination,
)
from connectors.firehose.requests import FirehoseRecord, firehose_record

__all__ = [
    "FirehoseDestination",
    "FirehoseRecord",
    "FirehoseSettings",
    "firehose_destination",
    "firehose_record",
]
