"""The zip that Managed Service for Apache Flink runs, as the service lays it out.

    main.py                          the entry script
    release.json                     what it is: version, content hash, plans, schema versions
    schemas/ connectors/ jobs/       the code (bootstrap: also batch/)
    lib/pyflink-dependencies.jar     every jar of the set `flink` of pom-deps.txt, merged into one
    dep/                             wheels, unpacked, and the code once more: `pyFiles`

The code is there twice, because the service's workers see `pyFiles` and nothing else, and its
client what lies beside the entry script.

contents       which files of the repository, and the entry script
requirements   which part of requirements.lock
wheels         those as wheels of the service's Python, in a cache of the user
jar            several jars as one
release        release.json
archive        the zip: reproducible, checked, measured
assembly       all of it: :func:`build`
"""

from __future__ import annotations

from deploy.package.archive import unpack
from deploy.package.assembly import Package, build
from deploy.package.errors import PackageError
from deploy.package.release import PackageDescription, read

__all__ = ["Package", "PackageDescription", "PackageError", "build", "read", "unpack"]
