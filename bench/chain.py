"""One cycle of 12 servos on a pty at 1 Mbit/s: processor time and wall time of our chain beside dynamixel-sdk, in one run.

The far end is the twin's line without physics, in a process of its own; bytes take the time they take. The SDK's cycle is
what a user of it writes: GroupSyncRead of current, velocity and position, their scaling, GroupSyncWrite of goals. *Codecs* is
the same by ours, register for register. *Chain* is what drives a robot: state, error bits, watchdog and torque of every servo
read as well, judged plausible and put into a message, goals rounded and written; it reads 20 to 23 bytes a servo where the
others read 10, so the wire has a time for each. Blocks of cycles alternate; a figure is the median. Then a servo in the
middle is mute for one cycle, and is there again in the next: what that cycle takes longer than the median one is what a lost
reply costs. Asked: a twentieth of its processor time, no more than 0.5 ms over the wire's, and 3 ms for a lost reply; of the
codecs the first, of the chain all three. Needs the extra `oracle`.
Run: robotrl bench chain [--blocks N] [--cycles N] [--lost N] [--out FILE]
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
from robotrl.drivers.sync import DynamixelRead, DynamixelWrite

BAUD, BITS = 1_000_000, 10
QUIET_NS = 2_500_000  # for which an answer that is due is waited for
TIMES, OVER_S, LOST_S = 20.0, 0.5e-3, 3e-3  # asked
ITEMS = (XM430.PRESENT_CURRENT, XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION)
FAR_END = """
import json, math
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
    def command(self, line):
        for servo in line["mute"]:
            self.bus.faults.begin("mute", servo, math.inf)
        if not line["mute"]:
            self.bus.faults.end()
        print(json.dumps(line), flush=True)  # it is so from now on

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


def codecs(path: str, ids: tuple[int, ...]) -> tuple[Callable[[], object], Callable[[], None], float]:
    """The same of our codecs on our port: asleep for as long as the answer takes, then it is read."""
    clock, goal = WallClock(), XM430.GOAL_POSITION
    port, read, write = SerialPort(path, BAUD, clock), DynamixelRead(ids, ITEMS), DynamixelWrite(ids, (goal,))
    byte_ns, goals = BITS * 1_000_000_000 // BAUD, [math.pi] * len(ids)

    def cycle() -> object:
        port.write(read.begin())
        end = clock.now() + (len(read.request) + read.size) * byte_ns
        clock.sleep_until(end)
        while not read.feed(data := port.read(end + QUIET_NS)):
            if not data:
                return None
        values = [read.values(item) for item in ITEMS]
        write.fill_values(goal, goals)
        port.write(write.packet())
        return values

    return cycle, port.close, (len(read.request) + read.size + len(write.packet())) * BITS / BAUD


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


def lost(cycle: Callable[[], object], mute: Callable[[list[int]], None], servo: int, times: int) -> tuple[list[float], int]:
    """Wall time (s) of each cycle in which that servo alone was mute, and how many of them did not show it."""
    wall, unseen = [], 0
    for _ in range(times):
        mute([servo])
        began = time.perf_counter()
        said = cycle()
        wall.append(time.perf_counter() - began)
        mute([])
        unseen += not (said is None or any(getattr(said, "missed", ())))
        for _ in range(4):  # the next ask it in its place again
            time.sleep(0.004)
            cycle()
    return wall, unseen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6, help="of cycles, of each side in turn")
    parser.add_argument("--cycles", type=int, default=50, help="in a block")
    parser.add_argument("--lost", type=int, default=20, help="replies that get lost, of each side in each block")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    args = parser.parse_args()
    ids = (10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42)
    far = subprocess.Popen([sys.executable, "-c", FAR_END], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    rows: dict[str, dict[str, float]] = {}
    try:
        assert far.stdout is not None
        path = json.loads(far.stdout.readline())["servos"]

        def mute(servos: list[int]) -> None:
            assert far.stdin is not None and far.stdout is not None
            far.stdin.write(json.dumps({"mute": servos}) + "\n")
            far.stdin.flush()
            far.stdout.readline()

        taken: dict[str, tuple[list[float], ...]] = {name: ([], [], [], [], []) for name in ("chain", "codecs", "sdk")}
        sides = {"chain": ours, "codecs": lambda path: codecs(path, ids), "sdk": lambda path: theirs(path, ids)}
        wires = {}
        for _ in range(args.blocks):
            for name in taken:
                cycle, close, wires[name] = sides[name](path)
                cpu, wall, missed = block(cycle, args.cycles, 0.004)
                without, unseen = lost(cycle, mute, ids[len(ids) // 2], args.lost)
                close()
                for kept, new in zip(taken[name], (cpu, wall, [missed], without, [unseen]), strict=True):
                    kept.extend(new)
        for name, (cpu, wall, missed, without, unseen) in taken.items():
            usual = statistics.median(wall)
            costs = sorted(1e3 * (took - usual) for took in without)
            rows[name] = {"cpu_us": 1e6 * statistics.median(cpu), "wall_ms": 1e3 * usual, "wire_ms": 1e3 * wires[name],
                          "over_ms": 1e3 * (usual - wires[name]), "missed": sum(missed), "lost_ms": statistics.median(costs),
                          "lost_p90_ms": costs[len(costs) * 9 // 10], "unseen": sum(unseen)}  # fmt: skip
            print(f"{name} | " + " | ".join(f"{key} {value:.3g}" for key, value in rows[name].items()), flush=True)
    finally:
        assert far.stdin is not None
        far.stdin.close()
        far.wait()
    times = {name: rows["sdk"]["cpu_us"] / rows[name]["cpu_us"] for name in ("codecs", "chain")}
    said = ", ".join(f"{name} {less:.1f}" for name, less in times.items())
    print(f"times less processor time than the SDK (asked {TIMES:.0f}): {said}; load {os.getloadavg()[0]:.1f}")
    if args.out is not None:
        asked = {"asked_times": TIMES, "asked_over_ms": 1e3 * OVER_S, "asked_lost_ms": 1e3 * LOST_S}
        figures = {"servos": len(ids), "load": os.getloadavg(), **asked, "times": times, "rows": rows}
        rundir.write_json(args.out, {**rundir.provenance(), **figures})
    row = rows["chain"]
    return 0 if min(times.values()) >= TIMES and row["over_ms"] <= 1e3 * OVER_S and row["lost_ms"] <= 1e3 * LOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
