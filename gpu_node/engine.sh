#!/bin/bash
# The engine's program on a node: vLLM, once provision.py has brought it and the model's weights. Takes vLLM's command line.
# Whatever it prints is shown to whoever waits for the model.
set -euo pipefail

home=$(cd "$(dirname "$0")" && pwd)
environment=/etc/diogenes/node.env  # the agent keeps its own variables from the engine; these are not the engine's

if [ -e "$environment" ]; then
  set -a
  # shellcheck source=/dev/null
  . "$environment"
  set +a
fi
cd "$home"
exec "$home/venv/bin/python" -m gpu_node.provision "$@"
