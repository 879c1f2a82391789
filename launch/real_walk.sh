#!/usr/bin/env bash
# The same job on the robot: bash launch/real_walk.sh [RUN.toml] [--sim] [--set a.b=c]. With --sim the far end of every wire is the twin.
# RUN.toml: launch/walk.toml (default), or another that rehearse.sh takes.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
run=launch/walk.toml
if [[ "${1-}" == *.toml ]]; then
  run=$1
  shift
fi
exec "$robotrl_python" -m robotrl run "$run" "$@"
