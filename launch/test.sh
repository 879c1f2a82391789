#!/usr/bin/env bash
# The tests: bash launch/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
exec "$robotrl_python" -m pytest "$@"
