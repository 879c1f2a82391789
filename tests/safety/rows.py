"""The fault catalogue (safety facts, section 2) as it is for a Minitaur: each row that the matrix plays.

A `Row` says how the fault is brought about, what must happen, within what time, and which detector's removal must turn it red.
The other rows: `elsewhere.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from robotrl.sim.faults import Again, Babble, Corrupt, Deaf, Delay, Freeze, Mute, Saturate, Silence, Twice, Unplugged
from robotrl.sim.liars import Skew, Weightless, frozen, mirrored, moved, stuck
from tests.safety.mischief import (
    ALL,
    MOVING,
    NAN,
    POWERED,
    Act,
    Check,
    absent,
    asleep,
    awake,
    both,
    clumsy,
    credulous,
    died,
    doubly,
    dozing,
    drift,
    eternal,
    every,
    executed,
    flaky,
    forgetful,
    hushed,
    instead,
    let_go,
    no_goal_soon,
    nobody,
    on,
    one_action,
    overrun,
    power_cut,
    rogue,
    spoiled,
    tell,
    tripped,
    trusting,
    unkept,
    unpowered,
    unslewed,
    watchdog,
)
from tests.safety.scene import T


@dataclass(frozen=True)
class Row:
    """`judged`: the states in which the guard must act; in all others nothing may come of the fault but a refusal."""

    number: int
    name: str
    begin: Act
    causes: tuple[str, ...]  # the first is the detector that must speak; with the others it is removed for the control
    action: str  # NONE WARN HOLD STOPPING PSTOP RELAX LOCKOUT
    ms: int  # from onset to bytes
    judged: tuple[str, ...] = ALL
    states: tuple[str, ...] = ALL  # where it can be at all
    clear: str = "OPERATOR"
    check: Check | None = None
    disarm: Act | None = None  # the control, where the detector is no row of the table
    lasts: bool = True  # it is still there when somebody tries to clear it
    heals: bool = True  # a person can make it good while the run goes on


# fmt: off
ROWS = (
    Row(1, "a servo falls silent", on("servos", lambda s: Mute(3)), ("servo_lost", "servo_flaky"), "PSTOP", 80),
    Row(1, "a servo misses one answer in five", every(flaky), ("servo_flaky",), "PSTOP", 320),
    Row(2, "cable cut, both ways", on("servos", lambda s: Silence()), ("bus_silent",), "PSTOP", 80, check=watchdog),
    Row(2, "cable cut, towards the servos", on("servos", lambda s: Silence(outward=False)), ("bus_silent",), "PSTOP", 80,
        check=watchdog),
    Row(2, "cable cut, from the servos", on("servos", lambda s: Silence(inward=False)), ("bus_silent",), "PSTOP", 80),
    Row(3, "junk between the answers", on("servos", lambda s: Babble()), ("frame_errors",), "STOPPING", 1200,
        clear="AUTO"),
    Row(3, "1 bit in 300 flipped, from the servos", on("servos", lambda s: Corrupt(s.rig.rng, 1 / 300, inward=False)),
        ("servo_flaky", "servo_lost", "bus_silent", "frame_errors"), "PSTOP", 300),
    Row(4, "an encoder jumps by a turn", tell("angle", lambda now: now + 1.0), ("servo_lost", "servo_flaky"), "PSTOP",
        80),
    Row(4, "an angle is no number", tell("angle", lambda now: math.nan), ("servo_lost", "servo_flaky"), "PSTOP", 80),
    Row(4, "a servo repeats its reading", lambda s: [tell(w, frozen())(s) for w in ("angle", "speed", "torque")],
        ("servo_frozen",), "PSTOP", 140, judged=POWERED),
    Row(4, "old answers again, one cycle's", on('servos', lambda s: Again(2)), ('servo_flaky', 'servo_lost',
        'bus_silent'), 'PSTOP', 140, disarm=lambda s: (s.without('servo_lost', 'servo_flaky', 'bus_silent'), trusting(s))),
    Row(6, "a winding at 91 C", tell("winding_c", lambda now: 91.0), ("temp_warning",), "WARN", 1000, clear="AUTO"),
    Row(6, "a winding at 96 C", tell("winding_c", lambda now: 96.0), ("temp_high",), "STOPPING", 1000),
    Row(6, "a winding at 101 C", tell("winding_c", lambda now: 101.0), ("temp_over", "temp_high"), "RELAX", 1000),
    Row(6, "a thermistor says nothing", tell("winding_c", lambda now: 0.0), ("temp_over",), "RELAX", 1000, POWERED, POWERED),
    # A board by its own limit, 75 C: at 76 C its controller lets go by itself.
    Row(6, "a board at 66 C", tell("board_c", lambda now: 66.0), ("temp_warning",), "WARN", 1000, clear="AUTO"),
    Row(6, "a board at 71 C", tell("board_c", lambda now: 71.0), ("temp_high",), "STOPPING", 1000),
    Row(6, "a board at 76 C", tell("board_c", lambda now: 76.0), ("temp_over", "temp_high"), "RELAX", 1000),
    *(Row(7, f"fault {code}: {what}", tripped(code), ("servo_fault",), "PSTOP", 40,
        heals=False) for code, what in ((33, "motor driver"), (34, "over-voltage"), (35, "encoder"), (40, "under-voltage"))),
    Row(8, "a servo reboots", lambda s: s.bank.reboot(2), ("wrong_mode",), "PSTOP", 40, judged=POWERED, lasts=False),
    Row(8, "a servo's watchdog trips", lambda s: s.bank._enter(2, 11), ('servo_timeout',), 'PSTOP', 240, judged=POWERED,
        heals=False),
    # In READY, where it is told to be stopped, it does not obey: row 63.
    Row(8, "a servo is in another mode", tell("mode", lambda now: 15.0), ("wrong_mode",), "PSTOP", 40, POWERED, POWERED),
    Row(9, "the servo port is unplugged", on("servos", lambda s: Unplugged()), ("port_lost", "driver_silent"), "PSTOP",
        40),
    Row(10, "unplugged, and plugged in again", on("servos", lambda s: Unplugged(), 0.4), ("port_lost",), "PSTOP", 40,
        check=unpowered, lasts=False),
    Row(11, "two servos with one id", on("servos", lambda s: Twice(3)), ("frame_errors",), "STOPPING", 1300,
        clear="AUTO"),
    Row(12, "16 ms of latency", on("servos", lambda s: Delay(s.rig.twin.now, 0.016)), ("bus_silent",), "PSTOP", 80),
    Row(14, "motor power cut and back", power_cut, ("bus_silent",), "PSTOP", 80, check=unpowered, lasts=False),
    Row(14, "motor power back", power_cut, ("bus_silent",), "PSTOP", 80, POWERED, POWERED, check=unpowered,
        disarm=forgetful, lasts=False),
    Row(15, "IMU frozen", on("imu", lambda s: Freeze()), ("imu_frozen",), "RELAX", 80),
    Row(15, "IMU silent", on("imu", lambda s: Silence()), ("imu_frozen", "imu_stale"), "RELAX", 80),
    Row(15, "IMU unplugged", on("imu", lambda s: Unplugged()), ("imu_stale",), "RELAX", 80),
    Row(16, "IMU's acceleration at its end", on('imu', lambda s: Saturate()), ('imu_implausible',), 'RELAX', 40),
    Row(16, "IMU's pitch beyond any pitch", on('imu', lambda s: Skew(0.0, 2.5)), ('imu_implausible',), 'RELAX', 40),
    Row(16, "IMU's bits flipped", on('imu', lambda s: Corrupt(s.rig.rng, 0.05)), ('imu_frozen', 'imu_stale'), 'RELAX',
        80),
    Row(16, "IMU biased by 0.45 rad", on("imu", lambda s: Skew(0.45, 0.0)), ("attitude",), "HOLD", 460, ("RUN",),
        clear="AUTO"),
    Row(17, "tracker shows one picture under new numbers", on("tracker", lambda s: stuck()), ("tracker_frozen",), "HOLD",
        120, ("RUN",), clear="AUTO"),
    Row(17, "tracker jumps by 2 m", on("tracker", lambda s: moved(2.0)), ("tracker_jump",), "HOLD", 100, ("RUN",),
        clear="AUTO"),
    Row(17, "tracker takes the mirror image", on("tracker", lambda s: mirrored()), ("attitude",), "HOLD", 360, ("RUN",),
        clear="AUTO"),
    Row(18, "tracker loses the robot", on("tracker", lambda s: Silence()), ("tracker_gone",), "HOLD", 1700, ("RUN",),
        clear="AUTO"),
    Row(20, "tracker unplugged", on("tracker", lambda s: Unplugged()), ("tracker_gone",), "HOLD", 1700, ("RUN",),
        clear="AUTO"),
    Row(22, "the machine is suspended", asleep, ("imu_frozen", "servo_timeout"), "RELAX", 560, check=awake, lasts=False,
        heals=False),
    Row(23, "actions 80 ms late", instead(lambda s, a: a and msgspec.structs.replace(a, t=a.t - 80000000)),
        ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO", executed),
    Row(23, "the reset's actions late", both(clumsy, instead(lambda s, a: a and msgspec.structs.replace(a, t=a.t - 80000000))),
        ('reset_silent',), 'HOLD', 1040, ('RESET',), ('RESET',), 'AUTO', executed),
    Row(23, "a late action in the hands of a credulous gate", rogue(t=lambda s: s.now - 80000000), (), "NONE", 0, (),
        check=executed, disarm=credulous),
    Row(24, "one action again and again", one_action, (), "NONE", 0, (), ("HOLD", "STOPPING", "clearing", "READY"),
        check=executed, disarm=doubly),
    Row(25, "actions in the wrong order", instead(lambda s, a: a and msgspec.structs.replace(a, seq=0)),
        ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO", executed),
    Row(26, "no actions", instead(lambda s, a: None), ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO",
        executed),
    Row(28, "an old lease's actions", rogue(epoch=lambda s: s.rig.permit.epoch - 1), (), 'NONE', 0, (), check=executed,
        disarm=credulous),
    Row(33, "the learner dies", died("learner", "learner"), ("learner_gone",), "WARN", 40, clear="AUTO"),
    Row(34, "the policy dies", died("policy", "policy"), ("policy_dead",), "HOLD", 40, ("RUN", "HOLD"), ("RUN", "HOLD"),
        "AUTO", heals=False),
    Row(34, "the reset dies", died("reset", "reset"), ("reset_dead",), "HOLD", 40, ("RESET", "HOLD"), ("RESET", "HOLD"),
        "AUTO", heals=False),
    Row(8, "the driver lets go", let_go, ("let_go",), "PSTOP", 340, ("HOLD", *MOVING), POWERED, check=unpowered,
        lasts=False),
    Row(35, "the guard is silent", absent("guard_lives"), (), "NONE", 0, (), POWERED, check=no_goal_soon, disarm=eternal),
    Row(35, "the guard dozes for 100 ms", dozing, ("guard_late",), "HOLD", 140, MOVING, MOVING, "AUTO", lasts=False),
    Row(36, "the servo driver is silent", absent("driver_lives"), ("driver_silent",), "PSTOP", 80, check=watchdog),
    Row(37, "the recorder is gone", hushed("recorder"), ("recorder_gone",), "HOLD", 5040, ("RUN", "HOLD"), clear="AUTO"),
    Row(38, "the console is silent", absent("console"), ("console_silent",), "STOPPING", 540, judged=(*POWERED, "RELAX")),
    Row(38, "the console dies", died("operator"), ("console_dead",), "STOPPING", 40, judged=("HOLD", "RUN", "RESET",
        "clearing"), states=("READY", "HOLD", "RUN", "RESET", "clearing"), heals=False),
    Row(39, "the manager dies", died("manager", "manager"), ("manager_gone",), "PSTOP", 40, heals=False),
    Row(40, "the manager stands still", hushed("manager"), ("manager_silent",), "PSTOP", 5040),
    Row(40, "the policy is stopped and wakes: its old action", rogue(t=lambda s: s.now - 1000000000, valid_ns=0), (),
        "NONE", 0, (), check=executed, disarm=credulous),
    Row(41, "the servo loop is late", every(overrun), ("overrun",), "HOLD", 80, MOVING, clear="AUTO"),
    Row(43, "a process is given up", lambda s: s.process("imu", "gave up"), ("crash_loop",), "PSTOP", 40, heals=False),
    Row(44, "the disk is full", unkept, ("disk_full",), "HOLD", 40, ("RUN", "HOLD"), clear="AUTO"),
    Row(49, "a joint runs away", drift, ("runaway",), "PSTOP", 220, ("HOLD", "RUN", "RESET"), heals=False),
    Row(51, "actions are no numbers", spoiled(NAN), ("nan_action",), "STOPPING", 80, MOVING, MOVING, check=executed,
        lasts=False),
    Row(51, "actions are infinite", spoiled((math.inf,) * 8), ("nan_action",), "STOPPING", 80, MOVING, MOVING,
        check=executed, lasts=False),
    Row(51, "no number in the hands of a credulous gate", spoiled(NAN), (), "ANY", 0, (), MOVING, check=executed,
        disarm=credulous),
    Row(51, "an action of seven numbers", spoiled((2.0,) * 7), ("action_stale",), "HOLD", 120, ("RUN",), ("RUN",), "AUTO",
        executed),
    Row(52, "actions out of range", spoiled((0.2, 5.0) * 4), ("clamped",), "WARN", 420, ("RUN",), ("RUN",), "AUTO"),
    Row(52, "actions of 1000 rad", spoiled((1000.0,) * 8), ("nan_action",), "STOPPING", 80, MOVING, MOVING,
        check=executed, lasts=False),
    Row(53, "actions jump from end to end", instead(lambda s, a: a and msgspec.structs.replace(a, target=(0.5, 3.5) * 4 if
        s.now // T % 2 else (3.5, 0.5) * 4)), (), "ANY", 0, (), MOVING, disarm=unslewed),
    Row(56, "another program acts", rogue(source="reset", epoch=lambda s: s.rig.permit.epoch), (), "NONE", 0, (),
        ("READY", "HOLD", "RUN", "STOPPING", "clearing"), check=executed, disarm=credulous),
    Row(57, "a policy that lost its lease acts", rogue(epoch=lambda s: s.rig.permit.epoch - 3), (), "NONE", 0, (),
        check=executed, disarm=credulous),
    Row(58, "tilted by 0.7 rad", on("imu", lambda s: Skew(0.7, 0.0)), ("episode_fall", "tilt"), "RELAX", 150, ("RUN",),
        lasts=False),
    Row(58, "pushed over", lambda s: s.rig.twin.world.push((0.0, 200.0, 0.0), 0.1), ("episode_fall", "tilt"), "RELAX",
        150, ("RUN",), ("RUN",), lasts=False),
    Row(58, "falling", on("imu", lambda s: Weightless()), ("free_fall",), "RELAX", 160, ("RUN",), lasts=False),
    Row(59, "a joint is blocked", both(tell("torque", lambda now: 4.0), tell("speed", lambda now: 0.0)), ("stalled",),
        "RELAX", 2080, ("RUN",), lasts=False),
    Row(61, "nobody is there", nobody, ("operator_absent",), "HOLD", 40, (*MOVING, "RELAX"), clear="AUTO"),
    Row(62, "the operator's stop", lambda s: setattr(s, 'key', 'stop'), ('operator_stop',), 'PSTOP', 40, lasts=False),
    Row(63, "a servo that does not obey the stop", both(on("servos", lambda s: Deaf(3)), on("imu", lambda s: Silence())),
        ("stop_unconfirmed",), "LOCKOUT", 700, POWERED, POWERED, heals=False),
)
# fmt: on
