#!/bin/sh
# Creates .venv from requirements.lock. Called by `make setup`; PYTHON names the Python to use.
# Needs nothing but a POSIX shell and Python 3.11 or 3.12.
set -eu

cd "$(dirname "$0")/.."
venv=.venv

say() { printf '%s\n' "$*"; }
fail() { printf 'tunemesh: %s\n' "$*" >&2; exit 1; }

# A version manager may put a `python3.12` on PATH that answers "not installed": only what runs counts.
usable() {
    "$1" -c 'import sys; sys.exit(0 if sys.version_info[:2] in ((3, 11), (3, 12)) else 1)' \
        >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or 3.12 that runs."
        say "$PYTHON"
        return
    fi
    for candidate in python3.12 python3.11 python3 python; do
        if usable "$candidate"; then
            say "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or 3.12 on PATH (PyFlink 2.2 has no newer one). Install one, or name one:
    make PYTHON=/path/to/python3.12 setup"
}

python=$(find_python)
version=$("$python" -c 'import platform; print(platform.python_version())')

if ! "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1].split(".")[:2])))' \
    "$version" >/dev/null 2>&1; then
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || fail "$python ($version) cannot create virtual environments: \
its modules venv or ensurepip are missing.
    On Debian and Ubuntu: apt-get install python$(printf %s "$version" | cut -d. -f1,2)-venv"
    say "==> $venv with Python $version ($(command -v "$python"))"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# uv and setuptools first, by the same lock; with them the rest takes seconds.
say "==> packages of requirements.lock"
awk '/^[a-z]/ { wanted = /^(uv|setuptools)==/ } wanted' requirements.lock >"$venv/bootstrap.txt"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes -r "$venv/bootstrap.txt"

# uv does not read pip's configuration (a mirror, a proxy's certificate): pip is the fallback.
# The lines of single packages are left out of its output.
{
    UV_NO_CONFIG=1 "$venv/bin/uv" pip sync --python "$venv/bin/python" \
        --require-hashes --no-build-isolation requirements.lock 2>&1 || : >"$venv/.uv-failed"
} | grep -Ev '^( [+~-] | *(Downloaded|Building|Built) )' || :
if [ -e "$venv/.uv-failed" ]; then
    rm "$venv/.uv-failed"
    say "==> uv failed; installing with pip, which takes a minute or two"
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --require-hashes --no-build-isolation -r requirements.lock
fi

# Now, on all cores, instead of in each process of the platform at its first start.
say "==> compiling the large packages"
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
(cd "$packages" && "$OLDPWD/$venv/bin/python" -m compileall -q -j 0 -x '/tests?/' pyflink apache_beam \
    numpy pandas pyarrow google grpc botocore boto3 moto werkzeug flask aiohttp >/dev/null) || :

say "==> tunemesh itself"
# "compat": the project root goes on the path as it is, so that a new package needs no new set-up.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --offline --no-deps --no-build-isolation \
    --config-setting editable_mode=compat -e .

"$venv/bin/python" -c 'import sys; from connectors.flink.interpreter import is_optimised_build as ok; sys.exit(not ok())' ||
    say "note: $python ($version) is no optimised build, which would decode a third faster: an operating system's
    Python usually is one. Others are taken by make PYTHON=/path/to/python3.11 setup"
