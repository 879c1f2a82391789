#!/usr/bin/env bash
# Installs what the system keeps for the robot: the service and the rules for its adapters. sudo bash launch/install.sh [--root DIR]
# Enables and starts nothing. `robotrl doctor` says whether it is there and up to date. --root: below another root than /.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
root=""
if [[ ${1:-} == --root && -n ${2:-} ]]; then root=$2; elif (($#)); then
  printf 'usage: sudo bash launch/install.sh [--root DIR]\n' >&2
  exit 2
fi
if [[ -z $root && $(id -u) != 0 ]]; then
  printf 'install: needs to be root; sudo bash %q\n' "$here/launch/install.sh" >&2
  exit 2
fi
user=$(stat -c %U -- "$here")
units=$root/etc/systemd/system
rules=$root/etc/udev/rules.d
mkdir -p -- "$units" "$rules"
text=$(<"$here/launch/system/robotrl.service")
text=${text//@PYTHON@/"\"$here/.venv/bin/python\""}
text=${text//@ROOT@/"$here"}
text=${text//@USER@/"$user"}
printf '%s\n' "$text" >"$units/robotrl.service"
cat -- "$here/launch/system/99-robotrl.rules" >"$rules/99-robotrl.rules"
if [[ -z $root ]]; then
  if command -v systemctl >/dev/null; then systemctl daemon-reload || true; fi
  if command -v udevadm >/dev/null; then udevadm control --reload && udevadm trigger --subsystem-match=tty --subsystem-match=usb-serial; fi
fi
printf 'installed %s\ninstalled %s\n' "$units/robotrl.service" "$rules/99-robotrl.rules"
printf 'plug the adapters in again; to run it as a service: sudo systemctl start robotrl\n'
