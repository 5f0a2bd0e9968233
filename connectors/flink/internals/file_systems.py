"""File systems of Flink's plugins in this process's JVM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyflink
from pyflink.common import Configuration
from pyflink.java_gateway import get_gateway

from connectors.flink.internals.version import check_version


def load_file_systems(configuration: Mapping[str, str]) -> None:
    """Load the file systems of FLINK_PLUGINS_DIR, S3 among them; raises InternalsError.

    A cluster's processes do so when they start, the minicluster does not. To be called before
    anything of PyFlink starts Java.
    """
    check_version()
    # Without it PyFlink would set it, and FLINK_PLUGINS_DIR beside it to its own.
    os.environ.setdefault("FLINK_HOME", str(Path(pyflink.__file__).parent))
    given = Configuration()
    for key, value in configuration.items():
        given.set_string(key, value)
    flink = get_gateway().jvm.org.apache.flink.core
    plugins = flink.plugin.PluginUtils.createPluginManagerFromRootFolder(given._j_configuration)
    flink.fs.FileSystem.initialize(given._j_configuration, plugins)
