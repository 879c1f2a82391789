"""A history of an arm that is sound, told by hand: two Feetech servos, held, run, stopped, lowered and let go."""

from __future__ import annotations

import math

from tests.bench.tale import IDS, Tale

STEP = math.tau / 4096
LENGTHS = (32, 33, 34, 31)  # of a cycle's question, from the first on
STOW = [-0.3, 0.4]
CONFIG = {
    "robot": {
        "kind": "so101", "senses": [], "stop_profile": "stow", "stop_damp_s": 1.0, "stow": STOW,
        "servos": {"protocol": "feetech", "ids": IDS, "sign": [1, -1], "offset": [math.pi] * 2, "gear": [], "watchdog_s": 0.1,
                   "velocity_limit": 3.0},
        "limits": {"position_min": 0.4, "position_max": 3.6, "joint_min": [-1.5, -1.2], "joint_max": [1.5, 1.2],
                   "slew_rad_s": 8.0, "lead_rad": 0.2, "gap_min": 0.1},
    },
    "task": {"rate_hz": 50.0},
}  # fmt: skip
REST, SETTLED = 15, 55  # cycles of a stop: until it is lowered, and until it is let go
LOWERS = 0.03  # rad in a cycle


def packet(*body):
    return bytes((0xFF, 0xFF, *body, ~sum(body) & 0xFF)).decode("latin-1")


def horn(servo, angle):
    """In steps, as two bytes."""
    steps = round((CONFIG["robot"]["servos"]["sign"][IDS.index(servo)] * angle + math.pi) / STEP)
    return (abs(steps) | (steps < 0) << 15).to_bytes(2, "little")


def whole(angle):
    """What the wire can carry of it."""
    return round(angle / STEP) * STEP


def goals(angles, speed=1000, ids=IDS):
    rows = [(i, *horn(i, a), 0, 0, *speed.to_bytes(2, "little"), 0xE8, 3) for i, a in zip(ids, angles, strict=True)]
    return packet(0xFE, 4 + 9 * len(rows), 0x83, 42, 8, *(byte for row in rows for byte in row))


def torque(value, ids=IDS):
    return packet(0xFE, 4 + 2 * len(ids), 0x83, 40, 1, *(byte for i in ids for byte in (i, value)))


def question(length, ids=IDS):
    return packet(0xFE, 4 + len(ids), 0x82, 71 - length, length, *ids)


def answer(servo, length, angle, on):
    block = bytearray(length)
    first = 71 - length
    block[40 - first], block[56 - first : 58 - first] = on, horn(servo, angle)
    return packet(servo, length + 2, 0, *block)


class ArmTale(Tale):
    """4 s. What `Tale` says of keys, leases and what is kept, on an arm whose stop takes a second."""

    config, cycles = CONFIG, 200

    def __init__(self):
        self.on, self.goal, self.rested = False, [whole(0.5), 0.0], 0
        super().__init__()

    def motors(self, n, ms, torque_on):
        length = LENGTHS[self.asked % len(LENGTHS)]
        self.asked += 1
        at = list(self.goal)
        on = self.on and n > 20
        self.add(ms, "in", wire="servos", v=question(length))
        self.add(ms + 1, "modes", wire="servos", v=[int(on)] * 2)
        self.add(ms + 1, "at", wire="servos", v=at)
        self.add(ms + 1, "out", wire="servos", v="".join(answer(i, length, a, on) for i, a in zip(IDS, at, strict=True)))
        self.add(ms + 2, "in", wire="servos", v=self.said(torque_on))
        return at, 10 if on else 0

    def said(self, torque_on):
        """The cycle's write: goals, at the start with torque between two of them; or torque off."""
        started = torque_on and not self.on
        if torque_on:
            self.on, self.rested = True, 0
            self.goal = [whole(self.position - 1.5), whole(2.0 - self.position)]
        elif self.on:
            self.lower()
        if not self.on:
            return torque(0)
        return goals(self.goal) + (torque(1) + goals(self.goal) if started else "")

    def lower(self):
        self.rested += 1
        way = [end - at for at, end in zip(self.goal, STOW, strict=True)]
        if self.rested > REST:
            self.goal = [whole(at + max(-LOWERS, min(LOWERS, w))) for at, w in zip(self.goal, way, strict=True)]
        down = all(abs(w) < 2 * STEP for w in way)
        self.on = not down or self.rested < SETTLED
