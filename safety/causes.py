"""The table of causes: what stops the robot, how severely, and who may let it go on. Rows are data.

A row says when it is seen (`signal` of `Inputs` is above `above`, for `debounce_s`), in which states it is judged, what it
does (`action`) and how it is cleared. A value that is not a number is above everything: what nobody can tell is not healthy.
A new fault is a new row, and a field of `Inputs` if there is none for it yet. Row numbers are those of the fault catalogue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class State(StrEnum):
    BOOT = "BOOT"
    CHECK = "CHECK"
    READY = "READY"
    HOLD = "HOLD"
    RUN = "RUN"
    RESET = "RESET"
    STOPPING = "STOPPING"
    PSTOP = "PSTOP"
    RELAX = "RELAX"
    LOCKOUT = "LOCKOUT"


class Severity(IntEnum):
    """In order: the most severe active cause wins."""

    NONE = 0
    WARN = 1
    HOLD = 2
    STOPPING = 3
    PSTOP = 4
    RELAX = 5
    LOCKOUT = 6


class Clear(StrEnum):
    AUTO = "AUTO"  # gone when it is gone; harmless causes only
    OPERATOR = "OPERATOR"  # latched until the operator clears it
    OPERATOR_COOLDOWN = "OPERATOR_COOLDOWN"  # the same, and not before `cooldown_s` after it went
    RESTART = "RESTART"  # latched for the life of the process


EVERYWHERE = frozenset(State)
POWERED = frozenset({State.HOLD, State.RUN, State.RESET, State.STOPPING, State.PSTOP})
MOVING = frozenset({State.RUN, State.RESET})
RUN, RESET, HELD, FALLEN = (frozenset({state}) for state in (State.RUN, State.RESET, State.HOLD, State.RELAX))
DRIVEN, STOPPING = MOVING | HELD, frozenset({State.STOPPING})
ATTENDED = POWERED | FALLEN  # limp, too: a session that goes on after a fall puts torque on by itself


@dataclass(frozen=True)
class Budget:
    """So many in so long heal by themselves inside a session. Rows with one `name` share one count."""

    name: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Cause:
    """One row. Raises ValueError when its parts contradict each other."""

    id: str
    row: int  # of the fault catalogue; 0: not in it
    signal: str  # the field of Inputs that shows it; empty: the guard raises it itself
    above: float
    action: Severity
    clear: Clear
    note: str  # what the operator is told
    debounce_s: float = 0.0  # it must be seen for so long without a break
    grace_s: float = 0.0  # it is not judged for so long after a state was entered
    states: frozenset[State] = EVERYWHERE  # where it is judged
    budget: Budget | None = None
    cooldown_s: float = 0.0
    answer: str = ""  # the command, besides clear, by which the operator settles it

    def __post_init__(self) -> None:
        if self.action >= Severity.PSTOP and self.clear is Clear.AUTO:
            raise ValueError(f"cause {self.id}: {self.action.name} is left by an operator only; not AUTO")
        if self.action is Severity.LOCKOUT and self.clear is not Clear.RESTART:
            raise ValueError(f"cause {self.id}: LOCKOUT is left by a restart only; give it the rule RESTART")


class Command(NamedTuple):
    """An operator's key. `role` is who sent it, as the bus knows him, not as he says."""

    name: str  # enable run pause stop clear reset disable
    role: str
    nonce: int = 0


class Inputs(NamedTuple):
    """What a node works out from its topics, once a step. Ages in s since the newest message; never: inf.

    The defaults of measured values are unhealthy: a field that nobody fills keeps the robot in CHECK.
    """

    epoch: int = 0  # the persisted lease counter
    commands: tuple[Command, ...] = ()
    checks_passed: bool = False  # handshake, limits, calibration, commissioning record
    check_note: str = ""  # the first check that fails, for the operator
    still: bool = False  # no joint moves
    drive_age_s: float = math.inf
    torque_on: bool = False  # as the driver reports it
    lowering: bool = False  # it lowers an arm, or holds one on its way down
    holding: bool = False  # it holds one on its way down, by a stop key
    let_go: bool = False  # it keeps its gate shut
    port_lost: bool = False
    stop_unconfirmed: bool = False  # three tries to stop were not read back
    permit_lapsed: bool = False  # this guard comes so late, torque on, that the gate has shut meanwhile
    rescue_gone: bool = False  # who stops the motors should the driver die
    overruns_in_row: int = 0
    missed_in_row: int = 0  # cycles, of the servo that has missed most
    bus_missed_in_row: int = 0  # cycles in which no servo at all answered
    frame_error_rate: float = 0.0  # bad frames per frame, over 1 s
    temp_c: float = math.nan  # hottest servo
    servo_fault: bool = False  # any servo in its fault mode
    servo_timeout: bool = False  # any servo in its timeout mode, or rebooted
    imu_age_s: float = math.inf
    imu_same_in_row: int = 0  # identical raw samples
    imu_implausible_in_row: int = 0  # samples refused as not finite or out of range
    missed_share: float = 0.0  # cycles of the last second in which the servo that missed most did not answer
    turned: bool = False  # a limp joint was turned so far that with torque it would read a turn off
    wrong_mode: bool = False  # torque is on, and a servo says that it does something else
    same_in_row: int = 0  # identical readings in a row of one servo under torque
    stalled_s: float = 0.0  # for which a joint has strained without moving
    runaway_s: float = 0.0  # for which a joint has gone away from a target it is far from
    reversals: int = 0  # of an arm's joint in the last second, each by more than 2 degrees and under load
    outside_m: float = 0.0  # by which an arm is measured out of its workspace
    weightless_s: float = 0.0  # for which the IMU has felt less than 0.3 g
    pose_same_in_row: int = 0  # identical poses, each said to be new
    pose_jump: bool = False  # since the last step the torso went farther than it can
    camera_frozen: bool = False  # of a camera that the robot's program looks through: one picture for ever
    camera_late: bool = False  # pictures that stay away, are too old, or of another size
    camera_blind: bool = False  # nothing can be seen in them
    camera_gone: bool = False  # it is unplugged, or its process says nothing
    attitude_gap_rad: float = 0.0  # between up as the IMU has it and up as the tracker has it
    clamped_share: float = 0.0  # actions of the last second of which the range cut something off
    tilt_rad: float = math.nan  # larger of |roll| and |pitch|
    pose_age_s: float = math.inf
    action_age_s: float = math.inf  # since the gate last used an action
    nan_action: bool = False  # the gate's verdict names it
    policy_dead: bool = False
    reset_dead: bool = False
    tracker_dead: bool = False
    console_dead: bool = False
    manager_gone: bool = False  # who would start again what dies
    manager_silent: bool = False  # it is stopped: who dies meanwhile stays down
    run_over: bool = False  # the manager ends the run
    hand_gone: bool = False  # a person led in the policy's place, and his device or its program is gone: nobody handed back
    learner_gone: bool = False
    recorder_gone: bool = False  # for longer than it takes to start it again
    unkept: bool = False  # the recorder cannot keep what it is sent
    crash_loop: bool = False  # the manager gave a process up
    console_age_s: float = math.inf
    human_age_s: float = math.inf  # since the last key a person pressed
    episode_ended: str = ""  # in the one step in which the policy says so: "fall", "time", ...
    reset_outcome: str = ""  # "running", then "done", "failed" or "asks"; the last three count only after the first was seen

    @property
    def episode_fall(self) -> bool:
        return self.episode_ended == "fall"

    @property
    def reset_failed(self) -> bool:
        return self.reset_outcome == "failed"

    @property
    def reset_asks(self) -> bool:
        return self.reset_outcome == "asks"


def catalogue(
    *, temp_c: float = 80.0, tilt_rad: float = 0.52, tilt_s: float = 0.1, falls: int = 5, hiccups: int = 10
) -> tuple[Cause, ...]:
    """The rows for a legged robot; thresholds as in `config.Limits`, budgets per 10 minutes.

    5 `falls` are for a robot that can walk; one that learns to falls more often, and its run says so.
    """
    hold, stopping, pstop, relax = Severity.HOLD, Severity.STOPPING, Severity.PSTOP, Severity.RELAX
    auto, operator, cooldown = Clear.AUTO, Clear.OPERATOR, Clear.OPERATOR_COOLDOWN
    fall, hiccup = Budget("fall", falls, 600.0), Budget("hiccup", hiccups, 600.0)
    imu, hot = "the IMU cannot be believed: see its cable", "servo too hot: let it cool"
    fell = "the robot fell: see that it is whole"
    # Behind the note: debounce, grace, states, budget.
    # fmt: off
    return (
        Cause("servo_lost", 1, "missed_in_row", 2, pstop, operator, "a servo does not answer: see its cable"),
        Cause("servo_flaky", 1, "missed_share", 0.05, pstop, operator, "a servo misses too often: see its cable"),
        Cause("bus_silent", 2, "bus_missed_in_row", 2, pstop, operator, "no servo answers: see its power"),
        Cause("frame_errors", 3, "frame_error_rate", 0.01, stopping, auto, "bad frames: see the cable", 1.0),
        Cause("servo_frozen", 4, "same_in_row", 4, pstop, operator, "a servo says the same for ever: switch it off and on"),
        Cause("temp_warning", 6, "temp_c", temp_c - 10, Severity.WARN, auto, "a servo is getting hot"),
        Cause("temp_high", 6, "temp_c", temp_c - 5, stopping, cooldown, hot, cooldown_s=30.0),
        Cause("temp_over", 6, "temp_c", temp_c, relax, cooldown, hot, cooldown_s=60.0),
        Cause("servo_fault", 7, "servo_fault", 0, pstop, operator, "a servo reports a fault: read its code"),
        Cause("servo_timeout", 8, "servo_timeout", 0, pstop, operator, "a servo's watchdog ran out", 0, 0.2, POWERED),
        Cause("wrong_mode", 8, "wrong_mode", 0, pstop, operator, "a servo was reset: see its power", 0, 0, POWERED),
        Cause("let_go", 8, "let_go", 0, pstop, operator, "the motors are off: see their power", 0.3, 0, DRIVEN | STOPPING),
        Cause("port_lost", 9, "port_lost", 0, pstop, operator, "the servo port is gone: plug it in again"),
        Cause("imu_stale", 15, "imu_age_s", 0.06, relax, operator, imu),
        Cause("imu_frozen", 15, "imu_same_in_row", 4, relax, operator, imu),
        Cause("imu_implausible", 16, "imu_implausible_in_row", 2, relax, operator, imu),
        Cause("attitude", 16, "attitude_gap_rad", 0.35, hold, auto, "IMU and tracker differ: see both", 0.3, 0, RUN),
        Cause("tracker_frozen", 17, "pose_same_in_row", 2, hold, auto, "one pose for ever: see the tracker", 0, 0, RUN),
        Cause("tracker_jump", 17, "pose_jump", 0, hold, auto, "the pose jumped: see the tracker", 0, 0, RUN, hiccup),
        Cause("tracker_gone", 17, "pose_age_s", 1.5, hold, auto, "no pose: look at the tracker", 0, 0, RUN),
        Cause("tracker_dead", 17, "tracker_dead", 0, hold, auto, "the tracker's program died", 0, 0, RUN | HELD),
        Cause("camera_frozen", 17, "camera_frozen", 0, hold, auto, "one picture for ever: see the camera", 0, 0, RUN),
        Cause("camera_late", 18, "camera_late", 0, hold, auto, "pictures are lost or late: see the load", 0, 0, RUN, hiccup),
        Cause("camera_blind", 19, "camera_blind", 0, hold, auto, "the camera sees nothing: covered? the light?", 0, 0, RUN),
        Cause("camera_gone", 20, "camera_gone", 0, hold, auto, "the camera is gone: plug it in", 0, 0, RUN),
        Cause("action_stale", 23, "action_age_s", 0.095, hold, auto, "actions come too late", 0, 0.5, RUN, hiccup),
        Cause("reset_silent", 23, "action_age_s", 0.5, hold, auto, "the reset script is silent", 0, 1.0, RESET),
        Cause("learner_gone", 33, "learner_gone", 0, Severity.WARN, auto, "the learner is gone"),
        Cause("policy_dead", 34, "policy_dead", 0, hold, auto, "the policy died", 0, 0, RUN | HELD),
        Cause("reset_dead", 34, "reset_dead", 0, hold, auto, "the reset script died", 0, 0, RESET | HELD | FALLEN),
        Cause("guard_restart", 35, "", 0, pstop, operator, "the guard was started again: look round"),
        Cause("guard_late", 35, "permit_lapsed", 0, hold, auto, "the guard came too late: see the load", 0, 0, MOVING, hiccup),
        Cause("rescue_gone", 0, "rescue_gone", 0, Severity.WARN, auto, "no rescue: the servos' watchdog alone would stop them"),
        Cause("driver_silent", 36, "drive_age_s", 0.06, pstop, operator, "the servo driver is silent"),
        Cause("recorder_gone", 37, "recorder_gone", 0, hold, auto, "nothing is recorded: see its log", 0, 0, RUN | HELD),
        Cause("console_silent", 38, "console_age_s", 0.5, stopping, operator, "no console: attach one", 0, 0, ATTENDED),
        Cause("console_dead", 38, "console_dead", 0, stopping, operator, "the console ended: attach one", 0, 0, ATTENDED),
        Cause("manager_gone", 39, "manager_gone", 0, pstop, operator, "the manager died: start the run again"),
        Cause("manager_silent", 40, "manager_silent", 0, pstop, operator, "the manager stands still: let it go on (kill -CONT)"),
        Cause("run_over", 0, "run_over", 0, relax, operator, "the run is over"),
        Cause("overrun", 41, "overruns_in_row", 2, hold, auto, "the servo loop is late", 0, 0, MOVING, hiccup),
        Cause("crash_loop", 43, "crash_loop", 0, pstop, operator, "a process died too often: read its log"),
        Cause("disk_full", 44, "unkept", 0, hold, auto, "the disk keeps nothing more: free space", 0, 0, RUN | HELD),
        Cause("runaway", 49, "runaway_s", 0.1, pstop, operator, "a joint runs away: see sign and zero", 0, 0, DRIVEN),
        Cause("oscillation", 54, "reversals", 8, hold, auto, "a joint oscillates: see the policy's smoothing, the gains", 0.2,
              0, MOVING),
        Cause("nan_action", 51, "nan_action", 0, stopping, operator, "the policy sends no numbers", 0, 0, MOVING),
        Cause("clamped", 52, "clamped_share", 0.2, Severity.WARN, auto, "the policy asks for too much", 0, 1.0, RUN),
        Cause("tilt", 58, "tilt_rad", tilt_rad, relax, operator, fell, tilt_s, 0, RUN, fall),
        Cause("episode_fall", 58, "episode_fall", 0, relax, operator, fell, 0, 0, RUN, fall),
        # 0.06 s in the facts: a Minitaur that bows as fast as it can is as light for so long. 0.1 s of a fall are 5 cm.
        Cause("free_fall", 58, "weightless_s", 0.1, relax, operator, fell, 0, 0, RUN, fall),
        # The driver has eased such a joint to what its motor bears for ever (peak_s), and a heavy robot strains where it stands:
        # time enough. One that learns lies on folded legs: as after a fall torque goes off, and it gets up again, so often.
        Cause("stalled", 59, "stalled_s", 2.0, relax, operator, "a joint is blocked: free it", 0, 2.0, RUN, fall),
        # The gate keeps goals in the box; a hand that it stops at the edge is up to 16 mm beyond it for a moment (row 60: 10 mm).
        Cause("workspace", 60, "outside_m", 0.02, pstop, operator, "the arm is out of its box: press disable", 0.03, 0, POWERED),
        Cause("operator_absent", 61, "human_age_s", 120.0, hold, auto, "nobody is there: press a key", 0, 0, MOVING | FALLEN),
        Cause("hand_gone", 0, "hand_gone", 0, hold, operator, "the hand that led is gone: see its device, then press run",
              states=RUN, answer="run"),
        Cause("turned", 0, "turned", 0, hold, operator, "a limp joint reads a turn off: turn it back by hand", 0.1, 0, FALLEN),
        Cause("operator_stop", 62, "", 0, pstop, operator, "stopped by the operator"),
        Cause("stop_unconfirmed", 63, "stop_unconfirmed", 0, Severity.LOCKOUT, Clear.RESTART,
              "CUT POWER: the motors did not confirm the stop"),
        Cause("session_over", 0, "", 0, hold, auto, "the session is 4 hours old: rest, then run"),
        Cause("pstop_long", 0, "", 0, relax, operator, "held for 10 minutes: torque goes off"),
        Cause("reset_failed", 0, "reset_failed", 0, hold, operator,
              "put it on its feet, stand clear, press reset", states=RESET, answer="reset"),
        Cause("set_up", 0, "reset_asks", 0, hold, operator,
              "put the task's things in their places, stand clear, press run", states=RESET, answer="run"),
    )
    # fmt: on
