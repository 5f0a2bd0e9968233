"""Group commit: calls that arrive while a transaction is written go into the next transaction.

A transaction costs a disk sync whatever its size, so calls share transactions: a single call waits
for its own, a thousand calls per second wait for a few. No timer is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from emulators.personalize.store import Call, Written

MAX_CALLS_PER_COMMIT = 256
RESULTS_BETWEEN_YIELDS = 20


class GroupCommit:
    """Calls `write` in a thread of its own and returns its result to each call.

    `apply` is called in the event loop, in the order of the commits, before the call returns: a
    client that has the response sees the effect of its call.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Call]], list[Written]],
        apply: Callable[[Written], None],
    ) -> None:
        self._write = write
        self._apply = apply
        self._pending: list[tuple[Call, asyncio.Future[Written]]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def submit(self, call: Call) -> Written:
        """Returns once `call` is durable; raises the exceptions of `write` and `apply`."""
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
                batch = self._pending[:MAX_CALLS_PER_COMMIT]
                del self._pending[:MAX_CALLS_PER_COMMIT]
                calls = [call for call, _ in batch]
                try:
                    results = await loop.run_in_executor(self._thread, self._write, calls)
                except Exception as error:  # noqa: BLE001 - raised in every caller of the batch
                    for _, future in batch:
                        future.set_exception(error)
                    continue
                for number, ((_, future), written) in enumerate(zip(batch, results, strict=True)):
                    try:
                        self._apply(written)
                    except Exception as error:  # noqa: BLE001 - raised in its caller only
                        future.set_exception(error)
                    else:
                        future.set_result(written)
                    if number % RESULTS_BETWEEN_YIELDS == RESULTS_BETWEEN_YIELDS - 1:
                        await asyncio.sleep(0)  # let other tasks run between updates of the model
            if self._closing:
                return
