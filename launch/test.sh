#!/usr/bin/env bash
# The tests: bash launch/test.sh [pytest arguments]
# Without arguments all of them, in four parts at once: the benches' own, which play whole runs and mostly wait, two that only
# compute, which take what the others leave of the cores, and the rest, whose progress is shown. A run whose twin is killed looks
# for its port by a name that the next one's may have: such tests stay in one part with those that open ports of their own.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd -- "$robotrl_root"
unset PYTHONDONTWRITEBYTECODE # a thousand processes are started: each would compile again all that it imports
pytest=("$robotrl_python" -m pytest)
if (($#)); then
  exec "${pytest[@]}" "$@"
fi
slowest=(--durations=20 --durations-min=5)
playing=(tests/bench)
learning=(tests/agents tests/calibration tests/rewards tests/tasks tests/test_rehearsal.py)
guarding=(tests/drivers tests/fuzz tests/safety tests/sim)
elsewhere=("${playing[@]}" "${learning[@]}" "${guarding[@]}")
said=$(mktemp -d)
beside=()
trap 'kill "${beside[@]}" 2>/dev/null || true; rm -rf "$said"' EXIT
begin() { # a part's name, how much it leaves to the others, its tests
  nice -n "$2" "${pytest[@]}" -p no:cacheprovider "${@:3}" "${slowest[@]}" >"$said/$1" 2>&1 </dev/null &
  beside+=($!)
}
begin playing 0 "${playing[@]}"
begin learning 19 "${learning[@]}"
begin guarding 19 "${guarding[@]}"
code=0
"${pytest[@]}" tests "${elsewhere[@]/#/--ignore=}" "${slowest[@]}" || code=$?
for part in "${beside[@]}"; do wait "$part" || code=$?; done
cat "$said/playing" "$said/learning" "$said/guarding"
exit "$code"
