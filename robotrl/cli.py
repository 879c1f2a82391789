"""The one command: `robotrl` or `python -m robotrl`. Each subcommand's module is named by string and imported when asked for."""

from __future__ import annotations

import importlib
import sys

from robotrl import aloud
from robotrl.complaint import SETUP, Complaint, command

COMMANDS: dict[str, tuple[str, str]] = {
    # command     module                          what it does
    "rehearse": ("robotrl.sim.rehearsal", "train in lockstep on the twin: RUN.toml [--steps N] [--seed S] [--set a.b=c]"),
    "run": ("robotrl.manager", "the full process tree on the wall clock: RUN.toml [--sim]"),
    "move": ("robotrl.move", "a robot's first motion, one joint after another: RUN.toml --robot so101|omx|dkitty [--sim]"),
    "resume": ("robotrl.resume", "goes on where a run stopped: RUN_DIR [--steps N]"),
    "eval": ("robotrl.sim.evaluation", "the deterministic policy on the twin: RUN_DIR [--episodes N] [--terrain ...]"),
    "console": ("robotrl.nodes.console", "the operator's terminal: [RUN_DIR]"),
    "view": ("robotrl.nodes.web", "a live page of a run for a browser on this machine: RUN_DIR [--port N]"),
    "relabel": ("robotrl.relabel", "what was said of a run's episodes, and what is said of them later: RUN_DIR [EPISODE ...]"),
    "classifier": ("robotrl.classified", "whether a learned reward deserves trust, and what it asks: RUN_DIR [queue | yes | no]"),
    "twin": ("robotrl.sim.twin", "the twin alone, on ptys, for any client of the real protocol: --robot NAME"),
    "doctor": ("robotrl.doctor", "what is missing before the first motion, and the line that fixes it"),
    "find-port": ("robotrl.findport", "which serial port is which: unplug and see; --ping asks for servos at every speed"),
    "find-cameras": ("robotrl.findcameras", "which cameras there are, with a picture of each: [URL of a network camera ...]"),
    "setup-servo": ("robotrl.setupservo", "a new servo's id and speed: --port P --family feetech|dynamixel --id N"),
    "board": ("robotrl.calibration.board", "a board for cameras as a PDF at true scale: --kind charuco|roof --out FILE"),
    "calibrate": ("robotrl.calibrate", "homing, intrinsics, hand-eye, imu: a robot's zeros, a camera's lens and place, an IMU"),
    "commission": ("robotrl.calibration.commission", "the record a robot needs before its first run"),
    "inspect": ("robotrl.inspection", "the way out of LOCKOUT, for a person at a terminal: NAME SERIAL"),
    "keys": ("robotrl.keytool", "who may reach a run from another machine: new NAME --role console, list"),
    "plot": ("robotrl.plots", "a run's pictures: RUN_DIR"),
    "play": ("robotrl.play", "a session again through the live code, compared bit for bit: SESSION.mcap [--limits FILE]"),
    "export": ("robotrl.lerobotexport", "a run's transitions for others: --lerobot DIR RUN_DIR..."),
    "demonstrate": ("robotrl.sim.demonstrate", "demonstrations by a task's script on the twin: RUN_FILE [--episodes N]"),
    "import": ("robotrl.lerobotimport", "demonstrations out of others' recordings: --lerobot DIR"),
    "bench": ("robotrl.benches", "a figure measured on this machine: learner, policy, rehearsal, twin, wall-clock, ..."),
    "replay": ("robotrl.replaycheck", "check RUN_DIR: what the replay holds, counted and verified"),
}


def usage() -> str:
    rows = "\n".join(f"  {name:<12} {what}" for name, (_, what) in COMMANDS.items())
    return f"usage: robotrl COMMAND ...\n\n{rows}\n\nrobotrl COMMAND --help says more."


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; a complaint the code foresaw is one line on standard error and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"robotrl: no command {argv[0]!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    name, rest = argv[0], argv[1:]
    try:
        module = importlib.import_module(COMMANDS[name][0])
        return int(module.main(rest))
    except KeyboardInterrupt:
        aloud.say(f"robotrl {name}: stopped by Ctrl-C", sys.stderr)  # whose terminal may be gone
        return 130
    except Complaint as error:
        print(f"robotrl {name}: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        if not error.name or error.name.partition(".")[0] == "robotrl":
            raise
        print(f"robotrl {name}: {error} ({sys.executable}); set up: {SETUP}, then {command(name)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
