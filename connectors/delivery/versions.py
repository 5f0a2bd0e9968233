"""The newest versions that the destination has accepted, so that no older one is sent after them.

Not part of the public surface. Pure data.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from connectors.delivery.destination import Version


class AcceptedVersions:
    """The newest accepted version of each of the `maximum` keys that were accepted last."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._versions: OrderedDict[Hashable, Version] = OrderedDict()

    def __len__(self) -> int:
        return len(self._versions)

    def add(self, key: Hashable, version: Version) -> None:
        """`version` of `key` was accepted."""
        held = self._versions.pop(key, version)
        self._versions[key] = max(held, version)
        if len(self._versions) > self._maximum:
            self._versions.popitem(last=False)

    def has_newer(self, key: Hashable, version: Version) -> bool:
        """Whether a newer version of `key` than this one was accepted."""
        held = self._versions.get(key)
        return held is not None and held > version
