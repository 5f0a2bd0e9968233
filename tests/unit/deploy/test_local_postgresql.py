"""PostgreSQL's data folder, without a server."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from deploy.local.postgresql import Identity, write_password


def test_the_password_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Also where an interrupted start has left one."""
    file = tmp_path / "password"
    file.write_text("another")
    file.chmod(0o644)
    before = os.umask(0)
    try:
        write_password(file, Identity(os.geteuid(), os.getegid(), ()))
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == "local"
