#!/usr/bin/env bash
# The tests: bash launch/test.sh [pytest arguments]
# Without arguments all of them, in two halves at once: those that only compute take what the others leave of the cores.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
pytest=("$robotrl_python" -m pytest)
if (($#)); then
  exec "${pytest[@]}" "$@"
fi
slowest=(--durations=20 --durations-min=5)
computing=(tests/agents tests/calibration tests/drivers tests/fuzz tests/rewards tests/safety tests/sim tests/tasks tests/test_rehearsal.py)
said=$(mktemp)
nice -n 19 "${pytest[@]}" -p no:cacheprovider "${computing[@]}" "${slowest[@]}" >"$said" 2>&1 </dev/null &
beside=$!
trap 'kill "$beside" 2>/dev/null || true; rm -f "$said"' EXIT
code=0
"${pytest[@]}" tests "${computing[@]/#/--ignore=}" "${slowest[@]}" || code=$?
wait "$beside" || code=$?
cat "$said"
exit "$code"
