#!/usr/bin/env bash
# A robot learns on the twin: bash launch/rehearse.sh [RUN.toml] [--steps N] [--seed S] [--set a.b=c]
# RUN.toml: launch/walk.toml, a Minitaur walks (default); reach.toml, stack.toml, push.toml, an arm's; dkitty_walk.toml, dkitty_stand.toml.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
run=launch/walk.toml
if [[ "${1-}" == *.toml ]]; then
  run=$1
  shift
fi
exec "$robotrl_python" -m robotrl rehearse "$run" "$@"
