"""Group commit: the calls that arrive while a transaction is written go into the next one.

A transaction costs a sync of the disk whatever is in it, so calls share it: one call alone waits
for its own transaction, a thousand calls a second wait for a few. No timer is involved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from emulators.personalize.store import Call, Written

MOST_CALLS_A_COMMIT = 256
RESULTS_BETWEEN_YIELDS = 20


class GroupCommit:
    """Feeds `write` from one thread of its own, and hands each call its result.

    `applied` is called in the event loop, in the order of the commits, before the call is answered:
    whoever has the answer sees its effect.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Call]], list[Written]],
        applied: Callable[[Written], None],
    ) -> None:
        self._write = write
        self._applied = applied
        self._pending: list[tuple[Call, asyncio.Future[Written]]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def submit(self, call: Call) -> Written:
        """Returns once `call` is durable; raises what `write` or `applied` raised."""
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._pending.append((call, future))
        self._wake.set()
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Writes what is pending, then stops the thread."""
        self._closing = True
        self._wake.set()
        await self._task
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch = self._pending[:MOST_CALLS_A_COMMIT]
                del self._pending[:MOST_CALLS_A_COMMIT]
                calls = [call for call, _ in batch]
                try:
                    results = await loop.run_in_executor(self._thread, self._write, calls)
                except Exception as error:  # noqa: BLE001 - every caller of the batch raises it
                    for _, future in batch:
                        future.set_exception(error)
                    continue
                for number, ((_, future), written) in enumerate(zip(batch, results, strict=True)):
                    try:
                        self._applied(written)
                    except Exception as error:  # noqa: BLE001 - its caller raises it, others go on
                        future.set_exception(error)
                    else:
                        future.set_result(written)
                    if number % RESULTS_BETWEEN_YIELDS == RESULTS_BETWEEN_YIELDS - 1:
                        await asyncio.sleep(0)  # others get the loop between the model's updates
            if self._closing:
                return
