"""A history that is sound, told by hand, for the nemesis's checker: no process of the product has made it."""

from __future__ import annotations

import math
import struct
from typing import ClassVar

MS = 1_000_000
IDS = [1, 2]
HOSTS = [(f"{0x80 | host:02x}", host) for host in range(0x40, 0x7F)]
GIVER = 11  # the console's life
# What its keys say, by the cycle of the press: the third number is the tick, -1 of what is about no step
KEYS = {
    60: [1200, 1.0, 50, "add", 7, 0, 9, -1, "", [0, 0, 0], 0],
    70: [1400, 0.0, -1, "undo", 0, -1, -1, -1, "", [GIVER, 1, 1], 0],
    80: [1600, -1.0, 70, "add", 7, 0, 29, 27, "", [0, 0, 0], 0],
}
CONFIG = {
    "robot": {
        "servos": {"ids": IDS, "sign": [1, -1], "offset": [0.0, 0.0], "watchdog_s": 0.1},
        "limits": {"position_min": 0.4, "position_max": 3.6, "slew_rad_s": 45.0, "lead_rad": 1.8, "gap_min": 0.1},
    },
    "task": {"rate_hz": 50.0},
}  # fmt: skip


def f32(value):
    return struct.pack("<f", value).hex()


def goal(servo, angle):
    turns = CONFIG["robot"]["servos"]["sign"][IDS.index(servo)] * angle / (2 * math.pi)
    return f"can send 00{servo:02x} 01000a0d20{f32(turns)}02237f7f0d25{f32(3.0)}0e27{f32(0.1)}{f32(4.0)}5050\n"


def reply(servo, host, angle, mode):
    turns = CONFIG["robot"]["servos"]["sign"][IDS.index(servo)] * angle / (2 * math.pi)
    return f"rcv {servo << 8 | host:x} 2100{mode:02x}2f01{f32(turns)}{f32(0)}{f32(0)}210a14230d200000\r\n"


def of(records, topic):
    return [r for r in records if r.get("topic") == topic]


class Tale:
    """A sound history of 3 s: checked, enabled, held, run, stopped by a fault, off. Two servos; `records` as in the file."""

    config = CONFIG
    cycles = 150
    plan: ClassVar = {
        10: ("READY", ""),
        20: ("HOLD", "enable"),
        40: ("RUN", "run"),
        100: ("PSTOP", ""),
        120: ("RELAX", "disable"),
    }

    def __init__(self, late=()):
        """`late`: the periods in which guard and driver say nothing, a joint sinking meanwhile."""
        self.late = late
        self.asked = 0
        self.records = [{"t": 0, "k": "begin", "config": self.config}]
        self.seq = dict.fromkeys(("permit", "guard", "operator", "action"), 0)
        for n, name in enumerate(("manager", "twin", "guard", "rescue", "servos", "policy")):
            self.add(1, "born", name=name, pid=100 + n, at=0)
            for t in (1, 1000, 2000):
                self.add(t, "weight", name=name, pid=100 + n, kb=50_000, fds=30, port=int(name in ("servos", "rescue")))
        self.was, self.state, self.position = "CHECK", "CHECK", 2.0
        self.kept = [[1, 7, "recorder", 7, 1, "started"]]
        for n in range(self.cycles):
            self.cycle(n, 20 * n + 10)
        end = 20 * self.cycles
        lines = [f"{r['m']['t']} {r['m']['state']} <- {r['m']['trigger']} []" for r in self.records if r.get("topic") == "guard"]
        self.add(end - 5, "log", name="guard", lines=lines)
        self.add(end - 4, "recovered", count=60, durable=40, rows=[[0, s] for s in range(60)])
        self.keep(7, "recorder", 7, 2, "ended")
        labels = [[order, boot, number, says] for order, kind, _, boot, number, says in self.kept if kind == 2]
        self.add(end - 3, "kept", records=self.kept, unsealed=[], damaged=[], index=labels)
        self.add(end - 1, "ended", code=0, said="", left=[])

    def add(self, ms, kind, **what):
        self.records.append({"t": round(ms * MS), "k": kind, **what})

    def say(self, ms, topic, source, **m):
        if topic in self.seq:
            self.seq[topic] += 1
        self.add(
            ms + 1, "bus", topic=topic, source=source, m={"boot": 7, "seq": self.seq.get(topic, 0), "t": round(ms * MS), **m}
        )

    def keep(self, *record):
        self.kept.append([len(self.kept) + 1, *record])

    def give(self, n, ms):
        """A step and a key, in a cycle that has them; they are kept, and acknowledged a little later."""
        if 0 < (number := n - 40) <= 60:
            says = [0, number - 1, n, 0.5, False, False, 1000 + n]
            self.say(ms + 3, "transition", "policy", life=0, number=number, says=says)
            self.keep(1, "policy", 7, number, says)
        if n in KEYS:
            number = sorted(KEYS).index(n) + 1
            for again in (0, 1):  # it is sent twice, and kept once
                self.say(ms + 4 + again, "label", "console", giver=GIVER, number=number, says=KEYS[n])
            self.keep(2, "console", GIVER, number, KEYS[n])
        there = {kind: max((r[4] for r in self.kept if r[1] == kind), default=0) for kind in (1, 2)}
        kept = [[1, "policy", 7, there[1]], [2, "console", GIVER, there[2]]]
        self.say(ms + 8, "ack", "recorder", kept=kept, durable=len(self.kept))

    def cycle(self, n, ms):
        """One period: permit, question, answer, goal or stop, and what is said of it."""
        self.state, key = self.plan.get(n, (self.state, ""))
        moved, trigger = self.state != self.was, ""
        if key:
            self.say(ms - 15, "operator", "console", command=key, nonce=1000 + n - 1, press=n)
            trigger = f"key {key} (console)"
        elif moved:
            trigger = "servo_fault" if self.state == "PSTOP" else "checks passed"
        causes = ["servo_fault"] if self.state in ("PSTOP", "RELAX") else []
        torque, holder = self.state in ("HOLD", "RUN", "PSTOP"), "policy" if self.state == "RUN" else ""
        if n in self.late:
            self.position += 0.02
            return
        self.say(ms, "permit", "guard", state=self.state, epoch=1 if n >= 40 else 0, holder=holder, torque=torque)
        self.say(ms, "guard", "guard", state=self.state, causes=causes, last_cause="", trigger=trigger, nonce=1000 + n,
                 session=self.state == "RUN")  # fmt: skip
        self.was = self.state
        if self.state == "RUN":
            self.say(ms + 1, "action", "policy", epoch=1, target=[self.position] * 2)
            self.position = 2.0 + 0.2 * math.sin(0.3 * n)
        self.wire(n, ms + 4, torque)

    def motors(self, n, ms, torque):
        """What passes on their wire; where they are, and in which mode."""
        word, host = HOSTS[self.asked % len(HOSTS)]
        self.asked += 1
        mode = 10 if torque and n > 20 else 0
        self.add(ms, "in", wire="servos", v="".join(f"can send {word}{i:02x} 11001f01110a130d\n" for i in IDS))
        self.add(ms + 1, "modes", wire="servos", v=[mode] * 2)
        at = [self.position, 2 * math.pi - 3.2 - self.position + 0.5]
        self.add(ms + 1, "out", wire="servos", v="".join(reply(i, host, a, mode) for i, a in zip(IDS, at, strict=True)))
        kinds = [goal(i, a) if torque else f"can send 00{i:02x} 010000\n" for i, a in zip(IDS, at, strict=True)]
        self.add(ms + 2, "in", wire="servos", v="".join(kinds))
        return at, mode

    def wire(self, n, ms, torque):
        at, mode = self.motors(n, ms, torque)
        self.add(ms, "out", wire="imu", v=33)
        self.add(ms, "out", wire="tracker", v=f"pose {n} 30000 {n}.000000 0.000000 0.100000 0.0 0.0 0.0 *AB\n")
        self.say(ms + 1, "pose", "tracker", position=[float(n), 0.0, 0.1], rpy=[0.0] * 3)
        self.records[-1]["m"]["t"] = round((ms - 30) * MS)
        self.say(ms + 1, "imu", "imu", stale=False)
        common = {"t": round((ms - 0.5) * MS), "tick": n}
        self.say(ms + 3, "joints", "servos", position=at, missed=[0, 0], **common)
        self.say(ms + 3, "drive", "servos", powered_off_confirmed=mode == 0, **common)
        writer = "policy" if self.state == "RUN" else "hold" if torque else "off"
        self.say(ms + 3, "applied", "servos", writer=writer, epoch=1, action_seq=self.seq["action"] if writer == "policy" else -1)
        steps = min(60, max(0, n - 40))
        self.say(ms + 3, "episode", "policy", dropped=0, transitions=steps, episode=0, step=steps, tick=40 + steps)
        self.give(n, ms)
