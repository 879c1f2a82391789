"""The fault catalogue (safety facts, section 2) as it is for robots on bus servos: rows that the matrix plays over their bytes.

`LINES` has them by robot: two arms, of either family, that hold, lower themselves and let go; and D'Kitty's twelve servos on its
stand, which brakes. The other rows: `elsewhere.py`.
"""

from __future__ import annotations

import math

import msgspec

from robotrl.sim.faults import Again, Corrupt, Delay, Drop, Silence, Unplugged
from tests.safety import linechecks as checks
from tests.safety import linefaults as faults
from tests.safety import linemischief as line
from tests.safety.mischief import (
    MOVING,
    POWERED,
    absent,
    both,
    clumsy,
    credulous,
    died,
    doubly,
    dozing,
    eternal,
    every,
    executed,
    hushed,
    instead,
    let_go,
    nobody,
    on,
    one_action,
    overrun,
    rogue,
    spoiled,
    unkept,
    unslewed,
)
from tests.safety.rows import Row
from tests.safety.scene import T

DRIVEN = ("HOLD", "RUN", "RESET")
GONE = ("servo_lost", "servo_flaky", "bus_silent")


def several(value: float):
    """Actions of the right size, all of it `value`."""
    return instead(lambda s, a: a and msgspec.structs.replace(a, target=(value,) * len(s.ids)))


def late(s, a):
    return a and msgspec.structs.replace(a, t=a.t - 80_000_000)


def ends(s, beyond=0.0):
    return tuple(high + beyond for high in s.run.robot.highest), tuple(low - beyond for low in s.run.robot.lowest)


def jumping(s, a):
    return a and msgspec.structs.replace(a, target=ends(s)[s.now // T % 2])


def swinging(s, a):
    """From end to end and back, five times a second."""
    return a and msgspec.structs.replace(a, target=ends(s)[s.now // (5 * T) % 2])


def onwards(s, a):
    return a and msgspec.structs.replace(a, target=ends(s)[0])


def through_the_floor(s, a):
    """Stretched out, and down."""
    down = {"omx": (0.0, 1.4, 0.6, 0.6, 0.0), "so101": (0.0, 1.6, 0.6, 0.6, 0.0, 0.0)}[s.run.robot.kind]
    return a and msgspec.structs.replace(a, target=down)


# fmt: off
WIRE = (
    Row(1, "a servo falls silent", line.inside("mute"), GONE, "PSTOP", 80, check=checks.alone()),
    Row(1, "a servo misses one answer in five", every(line.flaky), ("servo_flaky",), "PSTOP", 320),
    Row(5, "the first of the line falls silent, and nobody else", line.inside("mute", 0), GONE, "PSTOP", 80,
        check=checks.alone(0), disarm=line.asks_once),
    Row(5, "the last of the line falls silent", line.inside("mute", -1), GONE, "PSTOP", 80, check=checks.alone(-1)),
    Row(2, "cable cut, both ways", on("servos", lambda s: Silence()), ("bus_silent",), "PSTOP", 80, check=checks.left_alone),
    Row(2, "cable cut, towards the servos", on("servos", lambda s: Silence(outward=False)), ("bus_silent",), "PSTOP", 80,
        check=checks.left_alone),
    Row(2, "cable cut, from the servos", on("servos", lambda s: Silence(inward=False)), ("bus_silent",), "PSTOP", 80,
        check=checks.travelled),
    Row(3, "junk between the answers", on("servos", lambda s: faults.Stutter()), ("frame_errors",), "STOPPING", 1300,
        clear="AUTO"),
    Row(3, "1 bit in 300 flipped, from the servos", on("servos", lambda s: Corrupt(s.rig.rng, 1 / 300, inward=False)),
        (*GONE[1:], GONE[0], "frame_errors"), "PSTOP", 400),
    Row(3, "1 bit in 300 flipped, to the servos", on("servos", lambda s: Corrupt(s.rig.rng, 1 / 300, outward=False)),
        (*GONE[1:], GONE[0], "frame_errors"), "PSTOP", 400),
    Row(3, "one packet in three is lost", on("servos", lambda s: Drop(s.rig.rng, 0.3, inward=False)),
        (*GONE[1:], GONE[0]), "PSTOP", 400),
    Row(24, "every answer comes twice", on("servos", lambda s: faults.Doubled()), (), "NONE", 0, (), check=checks.nobody,
        disarm=line.confused),
    Row(4, "an encoder jumps by a quarter turn", line.says(present_position=lambda s, now: now + 1024), GONE, "PSTOP", 80),
    Row(4, "an encoder jumps by 0.5 rad", line.says(present_position=lambda s, now: now + 326), GONE, "PSTOP", 80,
        POWERED, POWERED),
    Row(4, "old answers again, one cycle's", on("servos", lambda s: Again(2)), (*GONE[1:], GONE[0]), "PSTOP", 240,
        disarm=both(lambda s: s.without(*GONE), line.one_length)),
    Row(12, "16 ms of latency", on("servos", lambda s: Delay(s.rig.twin.now, 0.016)), ("bus_silent",), "PSTOP", 80),
    Row(12, "half of every answer is held up", on("servos", lambda s: faults.HeldUp(s.rig.twin.now)), GONE, "PSTOP", 100),
    Row(9, "the servo port is unplugged", on("servos", lambda s: Unplugged()), ("port_lost", "driver_silent"), "PSTOP", 40,
        check=checks.left_alone),
    Row(10, "unplugged, and plugged in again", on("servos", lambda s: Unplugged(), 0.4), ("port_lost",), "PSTOP", 40,
        check=checks.unpowered, lasts=False),
    Row(10, "unplugged, and another robot plugged in", line.swapped, ("port_lost",), "PSTOP", 40, check=checks.left_alone,
        heals=False),
    Row(11, "two servos with one id", lambda s: s.tell({"fault": "rename", "servo": s.middle, "to": s.ids[0]}), GONE, "PSTOP",
        80, heals=False),
    Row(11, "the adapter at another baud", line.other_baud, ("bus_silent",), "PSTOP", 80, check=checks.left_alone),
    Row(14, "motor power cut and back", line.supply(0.0, 0.3), ("bus_silent",), "PSTOP", 80, check=checks.unpowered,
        lasts=False, heals=False),
    Row(14, "motor power back", line.supply(0.0, 0.3), ("bus_silent",), "PSTOP", 80, POWERED, POWERED, check=checks.unpowered,
        disarm=line.revives, lasts=False, heals=False),
)
INSIDE = (
    Row(6, "a servo 8 degrees below its limit", line.heated(-8), ("temp_warning",), "WARN", 1000, clear="AUTO"),
    Row(6, "a servo over its limit", line.heated(2), ("temp_over", "temp_high"), "RELAX", 1000),
    Row(6, "a servo over its limit, and the stop profile", line.heated(2), ("temp_over", "temp_high"), "RELAX", 4500,
        ("HOLD", "RUN", "RESET"), ("HOLD", "RUN", "RESET"), check=checks.lowered, disarm=line.drops),
    Row(49, "a joint runs away", line.drift, ("runaway",), "PSTOP", 200, DRIVEN, DRIVEN, heals=False),
    Row(22, "suspended, and no guard any more", line.beyond_recall, (), "NONE", 4500, (), ("HOLD", "RUN"), check=checks.lowered,
        disarm=line.drops),
    Row(63, "a servo that does not obey the stop", both(line.inside("deaf"), line.heated(2)), ("stop_unconfirmed",), "LOCKOUT",
        9000, POWERED, POWERED, check=checks.told_all, heals=False),
    Row(63, "a servo that does not obey, and all are told", both(line.inside("deaf"), line.heated(2)), ("stop_unconfirmed",),
        "LOCKOUT", 9000, ("RUN",), ("RUN",), check=checks.told_all, disarm=line.whispers, heals=False),
)
PROGRAM = (
    Row(23, "actions 80 ms late", instead(late), ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO", executed),
    Row(23, "the reset's actions late", both(clumsy, instead(late)), ("reset_silent",), "HOLD", 1040, ("RESET",), ("RESET",),
        "AUTO", executed),
    Row(23, "a late action in the hands of a credulous gate", rogue(t=lambda s: s.now - 80_000_000), (), "NONE", 0, (),
        check=executed, disarm=credulous),
    Row(24, "one action again and again", one_action, (), "NONE", 0, (), ("HOLD", "STOPPING", "clearing", "READY"),
        check=executed, disarm=doubly),
    Row(25, "actions in the wrong order", instead(lambda s, a: a and msgspec.structs.replace(a, seq=0)), ("action_stale",),
        "HOLD", 120, ("RUN",), ("RUN",), "AUTO", executed),
    Row(26, "no actions", instead(lambda s, a: None), ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO", executed),
    Row(28, "an old lease's actions", rogue(epoch=lambda s: s.rig.permit.epoch - 1), (), "NONE", 0, (), check=executed,
        disarm=credulous),
    Row(34, "the policy dies", died("policy", "policy"), ("policy_dead",), "HOLD", 40, ("RUN", "HOLD"), ("RUN", "HOLD"),
        "AUTO", heals=False),
    Row(34, "the reset dies", died("reset", "reset"), ("reset_dead",), "HOLD", 40, ("RESET", "HOLD"), ("RESET", "HOLD"),
        "AUTO", heals=False),
    Row(35, "the guard is silent", absent("guard_lives"), (), "NONE", 0, (), POWERED, check=checks.no_goal_soon, disarm=eternal),
    Row(35, "the guard dozes for 100 ms", dozing, ("guard_late",), "HOLD", 140, MOVING, MOVING, "AUTO", lasts=False),
    Row(36, "the servo driver is silent", absent("driver_lives"), ("driver_silent",), "PSTOP", 80, check=checks.left_alone),
    Row(36, "the servo driver dies, and the rescue stops the motors", line.orphaned, ("driver_silent",), "PSTOP", 80,
        check=checks.rescued, disarm=line.unattended, heals=False),
    Row(36, "the servo driver hangs, is killed, and the rescue stops the motors", line.hung, ("driver_silent",), "PSTOP", 80,
        ("HOLD", "RUN", "RESET"), ("HOLD", "RUN"), check=checks.rescued, disarm=line.unattended, heals=False),
    Row(37, "the recorder is gone", hushed("recorder"), ("recorder_gone",), "HOLD", 5040, ("RUN", "HOLD"), clear="AUTO"),
    Row(38, "the console is silent", absent("console"), ("console_silent",), "STOPPING", 540, judged=(*POWERED, "RELAX")),
    Row(38, "the console dies", died("operator"), ("console_dead",), "STOPPING", 40,
        judged=("HOLD", "RUN", "RESET", "clearing"), states=("READY", "HOLD", "RUN", "RESET", "clearing"), heals=False),
    Row(39, "the manager dies", died("manager", "manager"), ("manager_gone",), "PSTOP", 40, heals=False),
    Row(40, "the manager stands still", hushed("manager"), ("manager_silent",), "PSTOP", 5040),
    Row(40, "the policy is stopped and wakes: its old action", rogue(t=lambda s: s.now - 10**9, valid_ns=0), (), "NONE", 0, (),
        check=executed, disarm=credulous),
    Row(41, "the servo loop is late", every(overrun), ("overrun",), "HOLD", 80, MOVING, clear="AUTO"),
    Row(43, "a process is given up", lambda s: s.process("policy", "gave up"), ("crash_loop",), "PSTOP", 40, heals=False),
    Row(44, "the disk is full", unkept, ("disk_full",), "HOLD", 40, ("RUN", "HOLD"), clear="AUTO"),
    Row(51, "actions are no numbers", several(math.nan), ("nan_action",), "STOPPING", 80, MOVING, MOVING, check=executed,
        lasts=False),
    Row(51, "actions are infinite", several(math.inf), ("nan_action",), "STOPPING", 80, MOVING, MOVING, check=executed,
        lasts=False),
    Row(51, "an action of the wrong size", spoiled((0.1,) * 3), ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO",
        executed),
    Row(52, "actions out of range", instead(lambda s, a: a and msgspec.structs.replace(a, target=ends(s, 0.5)[0])), ("clamped",),
        "WARN", 420, ("RUN",), ("RUN",), "AUTO"),
    Row(52, "actions of 1000 rad", several(1000.0), ("nan_action",), "STOPPING", 80, MOVING, MOVING, check=executed,
        lasts=False),
    Row(53, "actions jump from end to end", instead(jumping), (), "ANY", 0, (), MOVING, disarm=unslewed),
    Row(56, "another program acts", rogue(source="reset", epoch=lambda s: s.rig.permit.epoch), (), "NONE", 0, (),
        ("READY", "HOLD", "RUN", "STOPPING", "clearing"), check=executed, disarm=credulous),
    Row(57, "a policy that lost its lease acts", rogue(epoch=lambda s: s.rig.permit.epoch - 3), (), "NONE", 0, (),
        check=executed, disarm=credulous),
    Row(61, "nobody is there", nobody, ("operator_absent",), "HOLD", 40, (*MOVING, "RELAX"), clear="AUTO"),
    Row(62, "the operator's stop", lambda s: setattr(s, "key", "stop"), ("operator_stop",), "PSTOP", 40, lasts=False),
)
STANDS_STILL = line.says(present_current=line.strained, present_velocity=lambda s, _: 0)
CAUGHT = both(line.pinched, instead(onwards))
# A goal that swings costs an SO-101 the torque that it takes; a Dynamixel's own damping spares it, so it says that it strains.
STRAINS = line.says(present_current=lambda s, now: line.strained(s, now) if s.state == "RUN" else now)
SWINGING = both(instead(swinging), lambda s: s.feetech or STRAINS(s))
LEGS = (
    Row(6, "a servo 3 degrees below its limit", line.heated(-3), ("temp_high",), "STOPPING", 1000),
    Row(59, "a joint is blocked", STANDS_STILL, ("stalled",), "RELAX", 2200, ("RUN",), ("HOLD", "RUN"), lasts=False),
    Row(8, "the driver lets go", let_go, ("let_go",), "PSTOP", 360, DRIVEN, POWERED, check=checks.unpowered, lasts=False),
)
ARM = (
    Row(6, "a servo 3 degrees below its limit", line.heated(-3), ("temp_high",), "RELAX", 1000),
    Row(49, "a motor turns the wrong way round", line.backwards, ("runaway",), "PSTOP", 220, ("RUN",), ("RUN",), lasts=False,
        heals=False),
    Row(54, "actions swing from end to end", SWINGING, ("oscillation",), "HOLD", 1200, ("RUN",), ("RUN",), "AUTO"),
    Row(59, "a joint is blocked", STANDS_STILL, ("stalled",), "PSTOP", 580, POWERED, lasts=False),
    Row(59, "a hand is caught", CAUGHT, ("stalled",), "PSTOP", 680, ("RUN",), ("RUN",), lasts=False),
    Row(59, "a hand is caught, and is pressed less", CAUGHT, ("stalled",), "PSTOP", 680, ("RUN",),
        ("RUN",), check=checks.eased, disarm=line.strong, lasts=False),
    Row(60, "the arm sinks out of its box", line.creeping, ("workspace",), "PSTOP", 720, DRIVEN, DRIVEN, heals=False),
    Row(60, "the hand is sent through the floor", instead(through_the_floor), (), "ANY", 0, (), ("RUN",),
        check=checks.over_the_floor, disarm=line.boundless),
)
DYNAMIXEL = (
    *(Row(7, f"hardware error {bit}: {what}", line.inside("trip", bits=bit), ("servo_fault",), "PSTOP", 40, heals=False)
      for bit, what in ((1, "voltage"), (4, "heat"), (16, "electrical shock"), (32, "overload"))),
    Row(13, "the Alert alone", on("servos", lambda s: faults.Marked(s.middle, 0x80)), ("servo_fault",), "PSTOP", 40,
        check=checks.alone()),
    Row(8, "a servo reboots", line.inside("reboot"), GONE, "PSTOP", 80, lasts=False, heals=False),
    Row(8, "a servo reboots between two questions", line.rebooted, ("wrong_mode", *GONE), "PSTOP", 40, POWERED, POWERED,
        check=checks.unpowered, lasts=False, heals=False),
    # Its grace of 0.2 s begins anew where the robot comes from STOPPING to PSTOP.
    Row(8, "a servo's watchdog trips", line.written(bus_watchdog=-1), ("servo_timeout",), "PSTOP", 320, POWERED, POWERED,
        heals=False),
    Row(8, "a servo's torque is off", line.written(torque=0), ("wrong_mode",), "PSTOP", 40, POWERED, POWERED, lasts=False,
        heals=False),
    Row(14, "the supply sags to 8 V", line.supply(8.0), ("servo_fault",), "PSTOP", 60, heals=False),
    Row(22, "the machine is suspended", line.asleep, ("servo_timeout",), "PSTOP", 560, POWERED, POWERED, check=checks.awake,
        lasts=False, heals=False),
    Row(22, "suspended, and a permit waits for who wakes", line.awaited, ("driver_silent", "servo_timeout"), "PSTOP", 560,
        POWERED, POWERED, check=checks.held, lasts=False, heals=False),
)
FEETECH = (
    *(Row(7, f"status {bit}: {what}", line.inside("trip", bits=bit), ("servo_fault",), "PSTOP", 40, heals=False)
      for bit, what in ((1, "voltage"), (2, "encoder"), (4, "heat"), (8, "current"))),
    Row(13, "an error byte alone", on("servos", lambda s: faults.Marked(s.middle, 32)), ("servo_fault",), "PSTOP", 40,
        check=checks.alone()),
    Row(8, "a servo reboots", line.inside("reboot"), GONE, "PSTOP", 80, lasts=False, heals=False),
    Row(8, "a servo reboots between two questions", line.rebooted, ("wrong_mode",), "PSTOP", 40, POWERED, POWERED,
        check=checks.unpowered, lasts=False, heals=False),
    Row(22, "the machine is suspended", line.asleep, ("guard_late",), "HOLD", 560, MOVING, MOVING, "AUTO", checks.awake,
        lasts=False),
    Row(36, "there is no rescue, and no watchdog", line.alone, ("rescue_gone",), "HOLD", 60, DRIVEN, DRIVEN, "AUTO"),
)
# fmt: on
OMX = (*WIRE, *INSIDE, *PROGRAM, *ARM, *DYNAMIXEL)
SO101 = (*WIRE, *INSIDE, *PROGRAM, *ARM, *FEETECH)
# Twelve servos behind one another, and no pose to be lowered to: what does not depend on either is played on the arms.
DKITTY = (*WIRE, *INSIDE, *LEGS, *DYNAMIXEL, *(row for row in PROGRAM if row.number in (35, 36, 53, 62)))
LINES = {"omx": OMX, "so101": SO101, "dkitty": DKITTY}
