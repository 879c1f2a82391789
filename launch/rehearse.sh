#!/usr/bin/env bash
# A Minitaur learns to walk on the twin: bash launch/rehearse.sh [--steps N] [--seed S] [--set a.b=c]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
exec "$robotrl_python" -m robotrl rehearse launch/walk.toml "$@"
