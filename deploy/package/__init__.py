"""The zip that Managed Service for Apache Flink runs, in the service's layout.

    main.py                          the entry script
    release.json                     description: version, content hash, plans, schema versions
    schemas/ connectors/ jobs/       the code (bootstrap: batch/ instead of jobs/)
    lib/pyflink-dependencies.jar     the jars of a set of pom-deps.txt (flink, parquet) as one
    dep/                             unpacked wheels, and a copy of the code: `pyFiles`

The code is included twice, because the service's workers see only `pyFiles`, and its client only
the files beside the entry script.

contents       the files of the repository, and the entry script
requirements   the requirements of requirements.lock that an application needs
wheels         these as wheels for the service's Python, in a cache of the user
jar            several jars merged into one
release        release.json
archive        the zip: reproducible, checked, measured
assembly       builds the package: :func:`build`
"""
