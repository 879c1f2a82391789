# shellcheck shell=bash
# Sourced by the launch scripts: makes .venv when it is missing or out of date, leaves it alone otherwise (a few milliseconds).
# Sets robotrl_root and robotrl_python. Needs a CPython 3.11 with venv and flock; no root, no terminal, no standard input.
#
#   ROBOTRL_PYTHON    the interpreter to use instead of the one found
#   ROBOTRL_PIP_ARGS  extra arguments for pip, e.g. another wheel index for a CPU or a Jetson build of torch

robotrl_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
robotrl_venv=$robotrl_root/.venv
robotrl_python=$robotrl_venv/bin/python

# Another project's PYTHONPATH (ROS sets one) puts foreign packages and pytest plugins in front of ours.
unset PYTHONPATH PYTHONHOME
# Started without a standard input, the first socket a program opens would become it.
if [[ ! -e /proc/self/fd/0 ]]; then exec </dev/null; fi

robotrl_say() { # one line: overwritten on a terminal, appended in a log
  if [[ -t 2 ]]; then printf '\r\033[Kset-up: %s' "$1" >&2; else printf 'set-up: %s\n' "$1" >&2; fi
}

robotrl_die() {
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  printf 'set-up: %s\n' "$1" >&2
  exit 2
}

# Prints the interpreter's real path; 3: not CPython 3.11 or newer, 4: newer than 3.11, 5: no venv.
robotrl_probe() {
  "$1" -I -c '
import os, platform, sys
if platform.python_implementation() != "CPython" or sys.version_info < (3, 11):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(5)
print(os.path.realpath(sys.executable))
sys.exit(0 if sys.version_info < (3, 12) else 4)
' 2>/dev/null </dev/null
}

# The interpreter a new .venv is made from, in robotrl_base.
robotrl_find() {
  local candidate status without_venv=""
  if [[ -n ${ROBOTRL_PYTHON:-} ]]; then
    status=0
    robotrl_base=$(robotrl_probe "$ROBOTRL_PYTHON") || status=$?
    case $status in
      0 | 4) return 0 ;; # 4: a later Python runs the robot half; there is no PyBullet wheel for it, so no twin
      5) robotrl_die "ROBOTRL_PYTHON=$ROBOTRL_PYTHON has no venv module; install it (Debian: python3-venv) or name another" ;;
      *) robotrl_die "ROBOTRL_PYTHON=$ROBOTRL_PYTHON is no CPython 3.11 or newer that runs; name another or unset it" ;;
    esac
  fi
  while IFS= read -r candidate; do
    status=0
    robotrl_base=$(robotrl_probe "$candidate") || status=$?
    if [[ $status == 0 ]]; then return 0; fi
    if [[ $status == 5 && -z $without_venv ]]; then without_venv=$candidate; fi
  done < <(
    type -aP python3.11 python3 python || true
    compgen -G "${HOME:-/nonexistent}/.pyenv/versions/3.11*/bin/python3.11" || true
    compgen -G "${HOME:-/nonexistent}/.local/share/uv/python/cpython-3.11*/bin/python3.11" || true
  )
  if [[ -n $without_venv ]]; then
    robotrl_die "$without_venv has no venv module; install it (Debian: python3.11-venv) or name another: ROBOTRL_PYTHON=/path/to/python3.11"
  fi
  robotrl_die "no CPython 3.11 found; install one or name it: ROBOTRL_PYTHON=/path/to/python3.11"
}

# What .venv was made from. The place is part of it: a moved checkout leaves absolute paths behind.
robotrl_stamp() {
  {
    printf '%s\n%s\n' "$1" "$robotrl_root"
    cat -- "$robotrl_root/pyproject.toml" "$robotrl_root/constraints.txt" "$robotrl_root/launch/env.sh"
  } | sha256sum | cut -d ' ' -f 1
}

robotrl_current() {
  local base
  [[ -x $robotrl_python && -f $robotrl_venv/stamp ]] || return 1
  base=$(readlink -f -- "$robotrl_python")
  if [[ -n ${ROBOTRL_PYTHON:-} ]]; then
    robotrl_find
    [[ $robotrl_base == "$base" ]] || return 1
  fi
  [[ $(<"$robotrl_venv/stamp") == "$(robotrl_stamp "$base")" ]]
}

# Says in one line why the command behind the log failed.
robotrl_explain() {
  local what=$1 log=$2 reason
  if grep -qiE 'no space left|errno 28|disk quota' "$log"; then
    robotrl_die "$what: disk full ($(df -Ph -- "$robotrl_root" | awk 'NR==2 {print $4}') left in $robotrl_root); make room, about 3 GB are needed, and run again"
  fi
  if grep -qiE 'name resolution|name or service not known|newconnectionerror|network is unreachable|connection refused|connecttimeout|timed out|proxyerror|max retries' "$log"; then
    robotrl_die "$what: no network to the package index; connect, or name another with ROBOTRL_PIP_ARGS, and run again (log: $log)"
  fi
  if grep -qiE 'permission denied|read-only file system' "$log"; then
    robotrl_die "$what: not allowed to write; make $robotrl_root writable for $(id -un) and run again (log: $log)"
  fi
  reason=$(grep -iE '^ *error' "$log" | tail -n 1 || true)
  robotrl_die "$what failed: ${reason:-$(tail -n 1 "$log")}; run again after removing .venv (log: $log)"
}

robotrl_pip() {
  local what=$1 extra=()
  shift
  read -ra extra <<<"${ROBOTRL_PIP_ARGS:-}"
  # TMPDIR inside .venv: a wheel of 200 MB unpacks there, and a small /tmp need not hold it.
  mkdir -p -- "$robotrl_venv/tmp" 2>>"$robotrl_venv/setup.log" || robotrl_explain "$what" "$robotrl_venv/setup.log"
  TMPDIR=$robotrl_venv/tmp PIP_USER=no "$robotrl_python" -m pip install --quiet --no-input --disable-pip-version-check \
    --constraint "$robotrl_root/constraints.txt" "${extra[@]}" "$@" </dev/null >"$robotrl_venv/setup.log" 2>&1 ||
    robotrl_explain "$what" "$robotrl_venv/setup.log"
}

robotrl_make() {
  local torch said
  robotrl_find
  torch=$(grep -m 1 '^torch==' "$robotrl_root/constraints.txt") || robotrl_die "constraints.txt pins no torch; add a line torch==VERSION"
  rm -f -- "$robotrl_venv/stamp"
  if [[ ! -x $robotrl_python || $(readlink -f -- "$robotrl_python") != "$robotrl_base" ]] || ! "$robotrl_python" -m pip --version >/dev/null 2>&1; then
    robotrl_say "1/3 a virtual environment in .venv from $robotrl_base"
    if ! said=$("$robotrl_base" -I -m venv --clear "$robotrl_venv" 2>&1 </dev/null); then
      printf '%s\n' "$said" >"$robotrl_venv/setup.log" 2>/dev/null || robotrl_die "making .venv: disk full or not writable: $robotrl_root"
      robotrl_explain "making .venv" "$robotrl_venv/setup.log"
    fi
  fi
  # torch first and alone: where an index offers a CPU build, nothing else may pull another one in.
  robotrl_say "2/3 $torch (the largest download, once)"
  robotrl_pip "installing $torch" "$torch"
  robotrl_say "3/3 the other packages and robotrl itself"
  robotrl_pip "installing robotrl" --editable "$robotrl_root[dev]"
  rm -rf -- "$robotrl_venv/tmp"
  robotrl_stamp "$robotrl_base" >"$robotrl_venv/stamp" || robotrl_die "writing .venv/stamp: disk full or not writable: $robotrl_root"
  robotrl_say "done"
  if [[ -t 2 ]]; then printf '\n' >&2; fi
}

robotrl_env() {
  local tool
  if robotrl_current; then return 0; fi
  for tool in flock sha256sum readlink; do
    command -v "$tool" >/dev/null || robotrl_die "$tool is not installed; install util-linux and coreutils"
  done
  mkdir -p -- "$robotrl_venv" 2>/dev/null || robotrl_die "cannot make $robotrl_venv; make $robotrl_root writable for $(id -un)"
  # The directory itself is the lock: it outlives `venv --clear`, and two commands on a fresh clone set up once.
  exec 9<"$robotrl_venv"
  if ! flock --nonblock 9; then
    robotrl_say "another command is setting up; waiting for it"
    flock 9
  fi
  if ! robotrl_current; then robotrl_make; fi
  exec 9<&- # or the program started next would hold the lock for as long as it runs
}

robotrl_env
