"""OpenSearch as a destination: `_bulk` for events and for trends.

documents        record -> entry of a bulk call: index, id, version, document; all limits checked
classification   OpenSearch's answer, for the call and for each document of it -> outcome
client           calls without authentication, with a password, or signed for AWS
destination      the three together, as a destination of the sink engine
setup            index templates, put before the first document
"""

from __future__ import annotations

from connectors.opensearch.classification import bulk_outcomes, classify
from connectors.opensearch.client import opensearch_client
from connectors.opensearch.destination import OpenSearchDestination, opensearch_destination
from connectors.opensearch.documents import (
    DIMENSIONS,
    EVENTS_INDEX_PREFIX,
    TRENDS_INDEX,
    BulkEntry,
    bulk_body,
    bulk_entry,
    event_entry,
    trend_entry,
)
from connectors.opensearch.settings import OpenSearchSettings
from connectors.opensearch.setup import (
    OpenSearchSetupError,
    index_templates,
    put_index_templates,
    set_up_opensearch,
)

__all__ = [
    "DIMENSIONS",
    "EVENTS_INDEX_PREFIX",
    "TRENDS_INDEX",
    "BulkEntry",
    "OpenSearchDestination",
    "OpenSearchSettings",
    "OpenSearchSetupError",
    "bulk_body",
    "bulk_entry",
    "bulk_outcomes",
    "classify",
    "event_entry",
    "index_templates",
    "opensearch_client",
    "opensearch_destination",
    "put_index_templates",
    "set_up_opensearch",
    "trend_entry",
]
