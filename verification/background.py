"""Work in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Background:
    """Runs work in a daemon thread; :meth:`result` waits for it and raises its error."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the work has not ended."""
        return self._thread.is_alive()

    def result(self) -> Any:
        """Return the result of the work, or raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._outcome

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._outcome = work()
        except BaseException as error:  # noqa: BLE001 - result() raises it where somebody waits
            self._error = error
