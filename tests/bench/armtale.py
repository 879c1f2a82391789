"""A history of an arm that is sound, told by hand: two bus servos, held, run, stopped, lowered and let go."""

from __future__ import annotations

import copy
import math

from tests.bench.tale import IDS, Tale

STEP = math.tau / 4096
SIGN = [1, -1]
STOW = [-0.3, 0.4]
CONFIG = {
    "robot": {
        "kind": "so101", "senses": [], "stop_profile": "stow", "stop_damp_s": 1.0, "stow": STOW,
        "servos": {"protocol": "feetech", "ids": IDS, "sign": SIGN, "offset": [math.pi] * 2, "gear": [], "watchdog_s": 0.1,
                   "velocity_limit": 3.0},
        "limits": {"position_min": 0.4, "position_max": 3.6, "joint_min": [-1.5, -1.2], "joint_max": [1.5, 1.2],
                   "slew_rad_s": 8.0, "lead_rad": 0.2, "gap_min": 0.1},
    },
    "task": {"rate_hz": 50.0},
}  # fmt: skip
REST, SETTLED = 15, 55  # cycles of a stop: until it is lowered, and until it is let go
LOWERS = 0.03  # rad in a cycle


def whole(angle):
    """What the wire can carry of it."""
    return round(angle / STEP) * STEP


def steps(servo, angle):
    return round((SIGN[IDS.index(servo)] * angle + math.pi) / STEP)


def text(data):
    return bytes(data).decode("latin-1")


class Feetech:
    """STS packets, with the sums that the manual has."""

    lengths = (32, 33, 34, 31)  # of a cycle's question, from the first on

    @staticmethod
    def packet(*body):
        return text((0xFF, 0xFF, *body, ~sum(body) & 0xFF))

    @classmethod
    def goals(cls, angles, speed=1000, ids=IDS):
        rows = [(i, *steps(i, a).to_bytes(2, "little"), 0, 0, *speed.to_bytes(2, "little"), 0xE8, 3)
                for i, a in zip(ids, angles, strict=True)]  # fmt: skip
        return cls.packet(0xFE, 4 + 9 * len(rows), 0x83, 42, 8, *(byte for row in rows for byte in row))

    @classmethod
    def torque(cls, value, ids=IDS):
        return cls.packet(0xFE, 4 + 2 * len(ids), 0x83, 40, 1, *(byte for i in ids for byte in (i, value)))

    @classmethod
    def all_off(cls):
        return cls.packet(0xFE, 4, 3, 40, 0)

    @classmethod
    def reboots(cls, servo):
        return cls.packet(servo, 2, 8)

    @classmethod
    def renames(cls, servo, to):
        return cls.packet(servo, 4, 3, 5, to)

    @classmethod
    def question(cls, length, ids=IDS):
        return cls.packet(0xFE, 4 + len(ids), 0x82, 71 - length, length, *ids)

    @classmethod
    def answer(cls, servo, length, angle, on):
        block, first = bytearray(length), 71 - length
        block[40 - first], block[56 - first : 58 - first] = on, steps(servo, angle).to_bytes(2, "little")
        return cls.packet(servo, length + 2, 0, *block)

    @classmethod
    def begins(cls):
        return ""


class Dynamixel:
    """Protocol 2.0, with the CRC as the e-Manual's example in C computes it; what 224 and the following show is said first."""

    lengths = (8, 9, 10, 7)
    shown = (64, 98, *range(132, 136), 70, 122, 123, 65)  # torque, watchdog, position; bytes that are of no use here
    told = (98, 100, 101, *range(116, 120))

    @staticmethod
    def crc(data):
        found = 0
        for byte in data:
            found ^= byte << 8
            for _ in range(8):
                found = (found << 1) ^ 0x18005 if found & 0x8000 else found << 1
        return found

    @classmethod
    def packet(cls, servo, *body):
        head = bytes((0xFF, 0xFF, 0xFD, 0, servo, *(len(body) + 2).to_bytes(2, "little"), *body))
        return text(head + cls.crc(head).to_bytes(2, "little"))

    @classmethod
    def write(cls, address, rows):
        size = len(rows[0]) - 1
        head = (*address.to_bytes(2, "little"), *size.to_bytes(2, "little"))
        return cls.packet(0xFE, 0x83, *head, *(byte for row in rows for byte in row))

    @classmethod
    def begins(cls):
        slots = [byte for at in (*cls.shown, *cls.told) for byte in at.to_bytes(2, "little")]
        return "".join(cls.packet(i, 3, 168, 0, *slots) for i in IDS)

    @classmethod
    def goals(cls, angles, ids=IDS):
        rows = [(i, 5, 0x75, 3, *steps(i, a).to_bytes(4, "little")) for i, a in zip(ids, angles, strict=True)]
        return cls.write(224 + len(cls.shown), rows)

    @classmethod
    def torque(cls, value, ids=IDS):
        return cls.write(98, [(i, 0) for i in ids]) + cls.write(64, [(i, value) for i in ids])

    @classmethod
    def all_off(cls):
        return cls.packet(0xFE, 3, 64, 0, 0) + cls.packet(0xFE, 3, 98, 0, 0)

    @classmethod
    def reboots(cls, servo):
        return cls.packet(servo, 8)

    @classmethod
    def renames(cls, servo, to):
        return cls.packet(servo, 3, 7, 0, to)

    @classmethod
    def question(cls, length, ids=IDS):
        return cls.packet(0xFE, 0x82, 224, 0, length, 0, *ids)

    @classmethod
    def answer(cls, servo, length, angle, on):
        block = bytes((on, 5, *steps(servo, angle).to_bytes(4, "little"))).ljust(length, b"\0")
        return cls.packet(servo, 0x55, 0, *block)


FAMILIES = {"feetech": Feetech, "dynamixel": Dynamixel}


def family(records):
    """Whose bytes these are."""
    return FAMILIES[records[0]["config"]["robot"]["servos"]["protocol"]]


class ArmTale(Tale):
    """4 s. What `Tale` says of keys, leases and what is kept, on an arm whose stop takes a second."""

    cycles = 200

    def __init__(self, protocol="feetech", hangs=0.0, limp=False):
        """`hangs`: rad by which the first joint is under its goal once it rests, where its stop then begins; `limp`: the second
        has lost its torque by then."""
        self.hangs, self.limp = hangs, limp
        self.words, self.config = FAMILIES[protocol], copy.deepcopy(CONFIG)
        self.config["robot"]["servos"]["protocol"] = protocol
        self.on, self.goal, self.rested = False, [whole(0.5), 0.0], 0
        super().__init__()

    def motors(self, n, ms, torque_on):
        words = self.words
        length = words.lengths[self.asked % len(words.lengths)]
        self.asked += 1
        at, resting = list(self.goal), n > 100 and self.rested <= 1
        at[0] = whole(at[0] - self.hangs * resting)
        on = self.on and n > 20
        self.add(ms, "in", wire="servos", v=("" if self.asked > 1 else words.begins()) + words.question(length))
        has = [int(on), int(on and not (self.limp and n >= 115))]
        self.add(ms + 1, "modes", wire="servos", v=has)
        self.add(ms + 1, "at", wire="servos", v=at)
        self.add(
            ms + 1, "out", wire="servos", v="".join(words.answer(i, length, a, h) for i, a, h in zip(IDS, at, has, strict=True))
        )
        self.add(ms + 2, "in", wire="servos", v=self.said(torque_on, at))
        return at, 10 if on else 0

    def said(self, torque_on, at):
        """The cycle's write: goals, at the start with torque between two of them; or torque off."""
        started = torque_on and not self.on
        if torque_on:
            self.on, self.rested = True, 0
            self.goal = [whole(self.position - 1.5), whole(2.0 - self.position)]
        elif self.on:
            self.goal = at if not self.rested else self.goal
            self.lower()
        if not self.on:
            return self.words.torque(0)
        led = self.words.goals(self.goal)
        return led + (self.words.torque(1) + led if started else "")

    def lower(self):
        self.rested += 1
        way = [end - at for at, end in zip(self.goal, STOW, strict=True)]
        if self.rested > REST:
            self.goal = [whole(at + max(-LOWERS, min(LOWERS, w))) for at, w in zip(self.goal, way, strict=True)]
        down = all(abs(w) < 2 * STEP for w in way)
        self.on = not down or self.rested < SETTLED
