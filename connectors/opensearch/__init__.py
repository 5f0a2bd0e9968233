"""OpenSearch as a destination: `_bulk` for events and for trends.

documents        record -> entry of a bulk call: index, id, version, document; all limits checked
classification   OpenSearch's answer, for the call and for each document of it -> outcome
client           calls without authentication, with a password, or signed for AWS
destination      the three together, as a destination of the sink engine
setup            index templates, put before the first document
"""

from __future__ import annotations

from connectors.opensearch.destination import OpenSearchDestination, opensearch_destination
from connectors.opensearch.documents import (
    EVENTS_INDEX_PREFIX,
    BulkEntry,
    event_entry,
)
from connectors.opensearch.settings import OpenSearchSettings
from connectors.opensearch.setup import (
    OpenSearchSetupError,
    set_up_opensearch,
)

__all__ = [
    "EVENTS_INDEX_PREFIX",
    "BulkEntry",
    "OpenSearchDestination",
    "OpenSearchSettings",
    "OpenSearchSetupError",
    "event_entry",
    "opensearch_destination",
    "set_up_opensearch",
]
