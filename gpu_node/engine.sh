#!/bin/bash
# The engine's program on a node: vLLM, which the first start puts on the machine. Takes vLLM's command line.
# Whatever it prints is shown to whoever waits for the model.
set -euo pipefail

home=$(cd "$(dirname "$0")" && pwd)
engine=$HOME/vllm

install() {
  echo "diogenes: installing the engine"
  python3 -m venv --clear "$engine"
  "$engine/bin/python" -m pip --quiet --disable-pip-version-check --retries 10 \
    install --no-cache-dir --require-hashes -r "$home/requirements-installer.txt"
  "$engine/bin/uv" pip install --quiet --python "$engine/bin/python" \
    --require-hashes -r "$home/requirements-engine.txt"
  touch "$engine/.installed"
}

if [ ! -e "$engine/.installed" ]; then
  trap 'echo "diogenes: the engine could not be installed"' EXIT
  install
  trap - EXIT
fi
exec "$engine/bin/vllm" "$@"
