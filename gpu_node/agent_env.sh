#!/bin/bash
# Makes the virtual environment of the agent: agent_env.sh FOLDER. Packages and digests are those of requirements.txt
# beside it. The stamp comes last and names the list, as that of the engine does.
set -euo pipefail

home=$(cd "$(dirname "$0")" && pwd)
folder=$1

python3 -m venv --clear "$folder"
"$folder/bin/python" -m pip --quiet --disable-pip-version-check --retries 10 \
  install --no-cache-dir --require-hashes -r "$home/requirements.txt"
sha256sum "$home/requirements.txt" | cut -d " " -f 1 > "$folder/.installed"
