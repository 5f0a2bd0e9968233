"""opensearch-py's ``parallel_bulk`` from memory. Runs in the environment of requirements.lock.

    python bulk.py URL DOCUMENTS WARM_UP THREADS CHUNK

DOCUMENTS: a file of JSON lines ``{"_index": ..., "_id": ..., "_source": {...}}``. The first WARM_UP
documents are written before the measurement: they open a connection and create the index. The last
line printed is the result in JSON: documents that succeeded and failed, seconds, processor seconds.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from opensearchpy import OpenSearch
from opensearchpy.helpers import bulk, parallel_bulk


def main(url: str, documents: str, warm_up: int, threads: int, chunk: int) -> None:
    """Write all documents and print the result."""
    # A connection per thread; otherwise the default settings.
    client = OpenSearch(url, maxsize=threads, timeout=60)
    with Path(documents).open(encoding="utf-8") as lines:
        actions = [json.loads(line) for line in lines]
    bulk(client, actions[:warm_up])
    rest = actions[warm_up:]
    gc.collect()
    gc.freeze()
    started, cpu = time.monotonic(), time.process_time()
    succeeded = failed = 0
    for ok, _ in parallel_bulk(
        client, rest, thread_count=threads, chunk_size=chunk, raise_on_error=False
    ):
        succeeded += ok
        failed += not ok
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    print(
        json.dumps(
            {"succeeded": succeeded, "failed": failed, "seconds": seconds, "cpu_seconds": cpu}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(argument) for argument in sys.argv[3:6]))
