"""Processor time of a servo cycle's codecs, ours beside the makers' SDKs, on a port in memory: 12 servos, state in, goals out.

A cycle asks all servos for current (Feetech: load), velocity and position, decodes the answers to A, rad/s and rad, encodes goals
in rad and writes them; the SDKs do it by GroupSyncRead and GroupSyncWrite and the scaling that a user of them writes. Both sides
must say the same numbers and write the same bytes, else this fails. Once the answer is there as soon as it is asked for (*codec*:
nothing but codecs is timed), once it comes at 1 Mbit/s (*wire*: the SDKs poll for it, a driver of ours sleeps for as long as the
answer takes). Blocks of cycles alternate; a figure is the median block. Asked is a twentieth of dynamixel-sdk's time on the wire.
Needs the extra `oracle`.
Run: robotrl bench codecs [--blocks N] [--cycles N] [--out FILE]   (half a minute)
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import rundir
from robotrl.complaint import Complaint
from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.dynamixel_x import XM430
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.sync import DynamixelRead, DynamixelWrite, FeetechRead, FeetechWrite

IDS = (10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42)  # D'Kitty's
ASKED = 20.0  # times the processor time of dynamixel-sdk
DYNAMIXEL = (XM430.PRESENT_CURRENT, XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION)
FEETECH = (STS3215.PRESENT_LOAD, STS3215.PRESENT_SPEED, STS3215.PRESENT_POSITION)
GOALS = np.linspace(1.0, 5.0, len(IDS))
Cycle = Callable[[], tuple[list[float], bytes]]


class Wire:
    """A port for both sides: every packet written is answered by `answer`, at once or at 1 Mbit/s."""

    def __init__(self, answer: bytes, byte_s: float) -> None:
        self.answer, self.left, self.last = answer, b"", b""
        self._byte_s, self._began, self._taken = byte_s, 0.0, 0
        self.is_using = False  # from here on what the SDKs ask of a port

    def writePort(self, packet: bytes) -> int:
        self.last = bytes(packet)
        self.left, self._taken = self.answer, 0
        self._began = time.perf_counter() + len(packet) * self._byte_s
        return len(packet)

    def readPort(self, length: int) -> bytes:
        if self._byte_s:
            length = min(length, int((time.perf_counter() - self._began) / self._byte_s) - self._taken)
        out, self.left = self.left[: max(0, length)], self.left[max(0, length) :]
        self._taken += len(out)
        return out

    def wait(self) -> bytes:
        """How a driver reads: asleep for as long as the answer takes."""
        if self._byte_s:
            time.sleep(max(0.0, self._began + len(self.answer) * self._byte_s - time.perf_counter()))
        return self.readPort(4096)

    def clearPort(self) -> None:
        self.left = b""

    def setPacketTimeout(self, length: int) -> None:
        pass

    def isPacketTimeout(self) -> bool:
        return not self.left


def ours(wire: Wire, read: Any, write: Any, goal: Any) -> Cycle:
    def cycle() -> tuple[list[float], bytes]:
        wire.writePort(read.begin())
        while not read.feed(wire.wait()):
            if not wire.left:
                raise AssertionError("not all have answered")
        values = [read.values(item) for item in read.layout.items]
        write.fill_values(goal, GOALS)
        wire.writePort(write.packet())
        return values, wire.last  # type: ignore[return-value]

    return cycle


def theirs(wire: Wire, sdk: Any, handler: Any, items: Any, goal: Any, signed: Callable[[int, Any], int]) -> Cycle:
    start = min(item.address for item in items)
    length = max(item.address + item.size for item in items) - start
    read = sdk.GroupSyncRead(wire, handler, start, length)
    write = sdk.GroupSyncWrite(wire, handler, goal.address, goal.size)
    for servo in IDS:
        read.addParam(servo)
        write.addParam(servo, [0] * goal.size)

    def cycle() -> tuple[list[float], bytes]:
        if read.txRxPacket() != 0:
            raise AssertionError("the SDK has no answer")
        values = [[signed(read.getData(i, item.address, item.size), item) * item.scale for i in IDS] for item in items]
        for servo, value in zip(IDS, GOALS, strict=True):
            steps = round(value / goal.scale)
            write.changeParam(servo, [steps >> 8 * k & 0xFF for k in range(goal.size)])
        write.txPacket()
        return values, wire.last  # type: ignore[return-value]

    return cycle


def _twos(raw: int, item: Any) -> int:
    return raw - (1 << 8 * item.size) if raw >> 8 * item.size - 1 else raw


def _by_bit(raw: int, item: Any) -> int:
    return -(raw & ~(1 << item.sign)) if raw >> item.sign & 1 else raw


def rivals(byte_s: float) -> dict[str, tuple[Cycle, Cycle]]:
    """Ours and theirs of each family."""
    try:
        import dynamixel_sdk
        import scservo_sdk
    except ImportError as error:
        raise Complaint(f"{error.name}: not installed; pip install -e .[oracle]") from None
    rng = random.Random(0)
    speed, goal = (rng.randint(-300, 300) for _ in IDS), STS3215.GOAL_POSITION
    rows = [XM430.PRESENT_CURRENT.encode(rng.randint(-900, 900)) + XM430.PRESENT_VELOCITY.encode(v)
            + XM430.PRESENT_POSITION.encode(rng.randint(0, 4095)) for v in speed]  # fmt: skip
    answer = b"".join(dynamixel.make_packet(i, dynamixel.STATUS, b"\0" + row) for i, row in zip(IDS, rows, strict=True))
    near, far = Wire(answer, byte_s), Wire(answer, byte_s)
    out = {
        "dynamixel": (
            ours(near, DynamixelRead(IDS, DYNAMIXEL), DynamixelWrite(IDS, (XM430.GOAL_POSITION,)), XM430.GOAL_POSITION),
            theirs(far, dynamixel_sdk, dynamixel_sdk.PacketHandler(2.0), DYNAMIXEL, XM430.GOAL_POSITION, _twos),
        )
    }
    rows = [STS3215.PRESENT_POSITION.encode(rng.randint(0, 4095)) + STS3215.PRESENT_SPEED.encode(rng.randint(-900, 900))
            + STS3215.PRESENT_LOAD.encode(rng.randint(-900, 900)) for _ in IDS]  # fmt: skip
    answer = b"".join(feetech.make_frame(i, 0, row) for i, row in zip(IDS, rows, strict=True))  # error byte 0
    near, far = Wire(answer, byte_s), Wire(answer, byte_s)
    out["feetech"] = (
        ours(near, FeetechRead(IDS, FEETECH), FeetechWrite(IDS, (goal,)), goal),
        theirs(far, scservo_sdk, scservo_sdk.PacketHandler(0), FEETECH, goal, _by_bit),
    )
    return out


def agree(name: str, mine: Cycle, other: Cycle) -> None:
    (values, sent), (theirs_values, theirs_sent) = mine(), other()
    if not np.array_equal(values, theirs_values) or sent != theirs_sent:
        raise AssertionError(f"{name}: not the same numbers or bytes")


def measure(mine: Cycle, other: Cycle, blocks: int, cycles: int) -> tuple[float, float]:
    """Median processor time of a cycle, s: ours and theirs, blocks in turn."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(blocks):
        for cycle, times in zip((mine, other), taken, strict=True):
            began = time.process_time()
            for _ in range(cycles):
                cycle()
            times.append((time.process_time() - began) / cycles)
    return statistics.median(taken[0]), statistics.median(taken[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15, help="of cycles, of each side in turn")
    parser.add_argument("--cycles", type=int, default=200, help="in a block")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    args = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    print("family | ours, us a cycle | the SDK, us | times")
    for kind, byte_s in (("codec", 0.0), ("wire", 1e-5)):
        for family, (mine, other) in rivals(byte_s).items():
            agree(family, mine, other)
            us, sdk_us = (1e6 * s for s in measure(mine, other, args.blocks, args.cycles // (4 if byte_s else 1)))
            rows[f"{family}, {kind}"] = {"us": us, "sdk_us": sdk_us, "times": sdk_us / us}
            print(f"{family}, {kind} | {us:.1f} | {sdk_us:.0f} | {sdk_us / us:.1f}", flush=True)
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), "servos": len(IDS), "asked_times": ASKED, "rows": rows})
    return 0 if rows["dynamixel, wire"]["times"] >= ASKED else 1


if __name__ == "__main__":
    sys.exit(main())
