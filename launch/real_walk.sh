#!/usr/bin/env bash
# The same job on the robot: bash launch/real_walk.sh. With --sim the far end of every wire is the twin.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
exec "$robotrl_python" -m robotrl run launch/walk.toml "$@"
