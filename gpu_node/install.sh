#!/bin/bash
# Installs the engine: install.sh FOLDER. Packages, versions and digests are those of requirements-engine.txt beside it.
# The stamp comes last and names the list, so that a folder that broke off, or is of another list, is not taken for it.
set -euo pipefail

home=$(cd "$(dirname "$0")" && pwd)
engine=$1

python3 -m venv --clear "$engine"
"$engine/bin/python" -m pip --quiet --disable-pip-version-check --retries 10 \
  install --no-cache-dir --require-hashes -r "$home/requirements-installer.txt"
"$engine/bin/uv" pip install --quiet --python "$engine/bin/python" \
  --require-hashes -r "$home/requirements-engine.txt"
sha256sum "$home/requirements-engine.txt" | cut -d " " -f 1 > "$engine/.installed"
