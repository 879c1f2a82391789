"""Whether the system has what `launch/install.sh` gives it, as it is in this checkout. The doctor asks."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path

from robotrl.complaint import ROOT
from robotrl.findport import Verdict

INSTALL = "sudo bash launch/install.sh"


def unit(root: Path = ROOT) -> str:
    """The service's text for a checkout at `root`; OSError where it ships none."""
    try:
        user = pwd.getpwuid(root.stat().st_uid).pw_name
    except KeyError:
        user = "UNKNOWN"
    text = (root / "launch" / "system" / "robotrl.service").read_text()
    for name, value in (("@PYTHON@", f'"{root}/.venv/bin/python"'), ("@ROOT@", str(root)), ("@USER@", user)):
        text = text.replace(name, value)
    return text


def rules(root: Path = ROOT) -> str:
    return (root / "launch" / "system" / "99-robotrl.rules").read_text()


def service(system: Path = Path("/"), root: Path = ROOT) -> Verdict:
    """The unit that starts the run again; it works without, by hand."""
    return _compare(system / "etc/systemd/system/robotrl.service", unit, root)


def adapters(system: Path = Path("/"), root: Path = ROOT) -> Verdict:
    """The udev rules: group, names, latency of the serial adapters."""
    return _compare(system / "etc/udev/rules.d/99-robotrl.rules", rules, root)


def _compare(path: Path, wanted: Callable[[Path], str], root: Path) -> Verdict:
    try:
        shipped = wanted(root)
    except OSError:
        return Verdict("warning", "not shipped with an installed package", "run the doctor in a source checkout")
    try:
        found = path.read_text()
    except OSError:
        return Verdict("warning", f"{path}: not installed", INSTALL)
    if found != shipped:
        return Verdict("warning", f"{path}: not as in this checkout", INSTALL)
    return Verdict("ok", str(path))
