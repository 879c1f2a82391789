#!/usr/bin/env bash
# The operator's terminal on a running run: bash launch/supervise.sh [RUN_DIR], without one the newest live run, a robot's first.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
arguments=()
for argument in "$@"; do # a run directory named from where the person stands
  if [[ -d $argument ]]; then argument=$(cd -- "$argument" && pwd -P); fi
  arguments+=("$argument")
done
cd -- "$robotrl_root"
exec "$robotrl_python" -m robotrl console "${arguments[@]}"
