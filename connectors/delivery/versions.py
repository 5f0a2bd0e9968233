"""Which versions the destination holds, as far as we know: so that an older one is not sent after.

Not part of the public surface. Pure data.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from connectors.delivery.destination import Version


class AcceptedVersions:
    """The newest accepted version of each of the `most` keys that were accepted last."""

    __slots__ = ("_most", "_versions")

    def __init__(self, most: int) -> None:
        self._most = most
        self._versions: OrderedDict[Hashable, Version] = OrderedDict()

    def __len__(self) -> int:
        return len(self._versions)

    def add(self, key: Hashable, version: Version) -> None:
        """`version` of `key` was accepted."""
        held = self._versions.pop(key, version)
        self._versions[key] = max(held, version)
        if len(self._versions) > self._most:
            self._versions.popitem(last=False)

    def newer_than(self, key: Hashable, version: Version) -> bool:
        """Whether a newer version of `key` than this one is known to have been accepted."""
        held = self._versions.get(key)
        return held is not None and held > version
