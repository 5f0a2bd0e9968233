"""The service opensearch: its jars, its modules, its configuration."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import yaml

from deploy.local import jars, opensearch
from deploy.local.settings import LocalSettings

LISTED = jars.select_sets(jars.load(), [opensearch.JAR_SET])
CACHE = Path("/cache")


def test_every_jar_is_the_nodes_or_one_modules() -> None:
    """No jar of the set is fetched in vain, none is loaded twice, and no module lacks one."""
    on_class_path = opensearch.class_path(LISTED, CACHE).split(os.pathsep)
    artifacts = [artifact for module in opensearch.MODULES for artifact in module.artifacts]
    by_artifact = {jar.artifact: str(CACHE / jar.path) for jar in LISTED}

    of_modules = [by_artifact[artifact] for artifact in artifacts]
    assert Counter([*on_class_path, *of_modules]) == Counter(by_artifact.values())
    assert len(by_artifact) == len(LISTED)
    only_modules = ("io.netty", "org.apache.httpcomponents", "org.opensearch.plugin", "org.ow2.asm")
    assert not [
        jar.coordinates
        for jar in LISTED
        if jar.group in only_modules and jar.artifact not in artifacts
    ]


def test_modules_are_of_the_nodes_version() -> None:
    """OpenSearch refuses a module that was made for another version."""
    node = next(jar for jar in LISTED if jar.artifact == opensearch.NODE)
    own = [module.artifacts[0] for module in opensearch.MODULES]
    assert {jar.version for jar in LISTED if jar.artifact in own} == {node.version}
    descriptor = opensearch.MODULES[0].descriptor(node.version)
    assert f"opensearch.version={node.version}\n" in descriptor


def test_the_node_listens_on_loopback_and_keeps_to_its_indices(tmp_path: Path) -> None:
    """Without a login it must be on loopback; folders may have special characters."""
    home = tmp_path / 'a "b": #c'
    settings = LocalSettings.from_environment(
        {"TUNEMESH_HOME": str(home), "TUNEMESH_OPENSEARCH_PORT": "40002"}
    )
    configuration = yaml.safe_load(opensearch.configuration(settings))

    assert configuration["network.host"] == "127.0.0.1"
    assert configuration["http.port"] == 40002
    assert configuration["path.data"] == str(home / "data" / "opensearch")
    assert configuration["action.auto_create_index"] == "+tunemesh-*,-*"
    assert not any(key.endswith(("bind_host", "publish_host")) for key in configuration)
