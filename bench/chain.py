"""One cycle of 12 servos on a pty at 1 Mbit/s: processor time and wall time of our chain beside dynamixel-sdk, in one run.

The far end is the twin's line without physics, in a process of its own; bytes take the time they take. Ours is the whole chain:
state, error bits, watchdog and torque of every servo read, judged plausible and put into a message, goals rounded and written.
The SDK's is what a user of it writes: GroupSyncRead of current, velocity and position, their scaling, GroupSyncWrite of goals;
it reads 10 bytes a servo where ours reads 20 to 23, so the wire has a time for each. Blocks of cycles alternate; a figure is the
median. Asked: a twentieth of its processor time, and no more than 0.5 ms over the wire's. Needs the extra `oracle`.
Run: robotrl bench chain [--blocks N] [--cycles N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robotrl import config, rundir
from robotrl.clock import WallClock
from robotrl.complaint import ROOT, Complaint
from robotrl.drivers.dynamixel_x import XM430
from robotrl.drivers.port import SerialPort
from robotrl.drivers.servo_chain import ServoChain
from robotrl.drivers.servo_line import TURNS

BAUD, BITS = 1_000_000, 10
TIMES, OVER_S = 20.0, 0.5e-3  # asked
ITEMS = (XM430.PRESENT_CURRENT, XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION)
FAR_END = """
import json, signal, sys
from robotrl.clock import WallClock
from robotrl.sim.faults import FaultyWire
from robotrl.sim.fleets import FLEETS
from robotrl.sim.server import Server

class Line:
    step_s = 0.002
    def __init__(self):
        self.clock = WallClock()
        self.bus = FLEETS["dkitty"].line(self.clock)
        self.wires = {"servos": FaultyWire(self.bus, lambda: 0.0)}
    def advance(self, seconds): pass
    def due(self): return self.bus.due()
    def command(self, line): pass

server = Server(Line(), until_eof=True)
print(json.dumps(server.paths), flush=True)
server.serve()
server.close()
"""


def ours(path: str) -> tuple[Callable[[], object], Callable[[], None], float]:
    """A cycle, what closes the port, and the wire's time of the cycle (s)."""
    run = config.from_dict({"robot": config.read(ROOT / "launch" / "robots" / "dkitty.toml")}, Path("dkitty.toml"))
    port = SerialPort(path, BAUD, WallClock())
    chain = ServoChain(port, run.robot, WallClock())
    chain.stop()
    chain.configure()
    for _ in range(50):
        goals = chain.read(0).position
        if all(map(math.isfinite, goals)):
            break
    n = len(run.robot.servos.ids)
    reads = [chain.line.asked(run.robot.servos.ids, turn) for turn in range(TURNS)]
    size = statistics.mean(len(read.request) + read.size for read in reads)

    def cycle() -> object:
        joints = chain.read(0)
        chain.write(goals)
        return joints

    written = 14 + n * 8  # id, watchdog, Goal PWM, Goal Position
    return cycle, port.close, (size + written) * BITS / BAUD


def theirs(path: str, ids: tuple[int, ...]) -> tuple[Callable[[], object], Callable[[], None], float]:
    """The same of dynamixel-sdk."""
    try:
        import dynamixel_sdk as sdk
    except ImportError as error:
        raise Complaint(f"{error.name}: not installed; pip install -e .[oracle]") from None
    port, packets = sdk.PortHandler(path), sdk.PacketHandler(2.0)
    if not port.openPort() or not port.setBaudRate(BAUD):
        raise Complaint(f"{path}: the SDK cannot open it")
    start, length = ITEMS[0].address, sum(item.size for item in ITEMS)
    read = sdk.GroupSyncRead(port, packets, start, length)
    write = sdk.GroupSyncWrite(port, packets, XM430.GOAL_POSITION.address, XM430.GOAL_POSITION.size)
    for servo in ids:
        read.addParam(servo)
        write.addParam(servo, [0, 8, 0, 0])

    def signed(raw: int, item: Any) -> int:
        return raw - (1 << 8 * item.size) if raw >> 8 * item.size - 1 else raw

    def cycle() -> object:
        if read.txRxPacket() != 0:
            return None
        values = [[signed(read.getData(i, item.address, item.size), item) * item.scale for i in ids] for item in ITEMS]
        for servo in ids:
            write.changeParam(servo, [0, 8, 0, 0])
        write.txPacket()
        return values

    n = len(ids)
    return cycle, port.closePort, (14 + n + n * (11 + length) + 14 + 5 * n) * BITS / BAUD


def block(cycle: Callable[[], object], cycles: int, pause_s: float) -> tuple[list[float], list[float], int]:
    """Processor and wall time (s) of each cycle, and how many had no answer."""
    cpu, wall, lost = [], [], 0
    for _ in range(cycles):
        began, busy = time.perf_counter(), time.process_time()
        said = cycle()
        cpu.append(time.process_time() - busy)
        wall.append(time.perf_counter() - began)
        lost += said is None or any(getattr(said, "missed", ()))
        time.sleep(pause_s)
    return cpu, wall, lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6, help="of cycles, of each side in turn")
    parser.add_argument("--cycles", type=int, default=50, help="in a block")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    args = parser.parse_args()
    ids = (10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42)
    far = subprocess.Popen([sys.executable, "-c", FAR_END], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    rows: dict[str, dict[str, float]] = {}
    try:
        assert far.stdout is not None
        path = json.loads(far.stdout.readline())["servos"]
        taken: dict[str, tuple[list[float], list[float], list[int]]] = {"ours": ([], [], []), "sdk": ([], [], [])}
        wires = {}
        for _ in range(args.blocks):
            for name in taken:
                cycle, close, wires[name] = ours(path) if name == "ours" else theirs(path, ids)
                cpu, wall, lost = block(cycle, args.cycles, 0.004)
                close()
                for kept, new in zip(taken[name], (cpu, wall, [lost]), strict=True):
                    kept.extend(new)  # type: ignore[arg-type]
        for name, (cpu, wall, lost) in taken.items():
            over = statistics.median(wall) - wires[name]
            rows[name] = {"cpu_us": 1e6 * statistics.median(cpu), "wall_ms": 1e3 * statistics.median(wall),
                          "wire_ms": 1e3 * wires[name], "over_ms": 1e3 * over, "lost": sum(lost)}  # fmt: skip
            print(f"{name} | " + " | ".join(f"{key} {value:.3g}" for key, value in rows[name].items()), flush=True)
    finally:
        assert far.stdin is not None
        far.stdin.close()
        far.wait()
    times = rows["sdk"]["cpu_us"] / rows["ours"]["cpu_us"]
    print(f"{times:.1f} times less processor time (asked {TIMES:.0f}); load {os.getloadavg()[0]:.1f}")
    if args.out is not None:
        figures = {"servos": len(ids), "asked_times": TIMES, "asked_over_ms": 1e3 * OVER_S, "times": times, "rows": rows}
        rundir.write_json(args.out, {**rundir.provenance(), **figures})
    return 0 if times >= TIMES and rows["ours"]["over_ms"] <= 1e3 * OVER_S else 1


if __name__ == "__main__":
    sys.exit(main())
