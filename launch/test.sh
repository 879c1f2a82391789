#!/usr/bin/env bash
# The tests: bash launch/test.sh [pytest arguments]
# Without arguments all of them, in three parts at once: those that play whole runs on the wall clock and mostly wait, those that
# only compute, which take what the others leave of the cores, and the rest, whose progress is shown.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
unset PYTHONDONTWRITEBYTECODE # a thousand processes are started: each would compile again all that it imports
pytest=("$robotrl_python" -m pytest)
if (($#)); then
  exec "${pytest[@]}" "$@"
fi
slowest=(--durations=20 --durations-min=5)
computing=(tests/agents tests/calibration tests/drivers tests/fuzz tests/rewards tests/safety tests/sim tests/tasks tests/test_rehearsal.py)
playing=(tests/bench tests/test_wall_clock.py)
said=$(mktemp -d)
beside=()
trap 'kill "${beside[@]}" 2>/dev/null || true; rm -rf "$said"' EXIT
nice -n 19 "${pytest[@]}" -p no:cacheprovider "${computing[@]}" "${slowest[@]}" >"$said/computing" 2>&1 </dev/null &
beside+=($!)
"${pytest[@]}" -p no:cacheprovider "${playing[@]}" "${slowest[@]}" >"$said/playing" 2>&1 </dev/null &
beside+=($!)
code=0
"${pytest[@]}" tests "${computing[@]/#/--ignore=}" "${playing[@]/#/--ignore=}" "${slowest[@]}" || code=$?
for part in "${beside[@]}"; do wait "$part" || code=$?; done
cat "$said/playing" "$said/computing"
exit "$code"
