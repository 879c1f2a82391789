"""The guard: hears every stream, says fifty times a second who may move the robot. Imports no torch.

`Sentry` turns messages into the plain `Inputs` that `safety.guard` judges, and its verdict into a permit. The same sentry stands
in the rehearsal. `main` is its process on the wall clock.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from robotrl import messages as m
from robotrl.complaint import Complaint
from robotrl.config import Run
from robotrl.node import Node
from robotrl.nodes.checks import astray, hottest, lacking
from robotrl.nodes.epoch import EpochFile, LockoutFile
from robotrl.nodes.evidence import Evidence, causes, looked_through
from robotrl.nodes.grip import Held
from robotrl.nodes.obedience import Obedience
from robotrl.nodes.vigil import NEVER, Vigil
from robotrl.nodes.waydown import way_down
from robotrl.roles import HANDS, LABELLING, LARGEST
from robotrl.safety.causes import Command, Inputs
from robotrl.safety.gate import PERMIT_VALID_NS
from robotrl.safety.guard import Guard, Outputs

STILL_RAD_S = 0.5  # slower than this no joint counts as moving; reading noise stays below
BEGIN_NS = 30_000_000_000  # for a learner to speak for the first time: it imports torch
LISTEN_NS = 1_000_000_000  # for a guard that was started again to hear the others before it judges
GONE_NS = 5_000_000_000  # a learner, a recorder or a manager that has not beaten for so long is gone
UNSEEN_NS = 300_000_000  # a camera's process that has said nothing for so long, not even that there is no picture; chosen
MUTE = 2  # cycles that a servo has missed in a row, above which it is silent: bus_silent of the catalogue
SILENT_S = 0.06  # a driver not heard for so long cannot say whether torque is on
LATE_FRAME_S = 1.0  # over which bad frames are counted
UNANSWERED = -1  # no nonce that was ever shown
READ_NS = 2_000_000_000  # how long a refused key's reason stays on the operator's screen


class Sentry:
    """Streams in, permit out. `next_epoch` persists a lease's number before it is granted."""

    def __init__(
        self, run: Run, next_epoch: Callable[[], int], nonce: Callable[[], int], restarted: bool = False, epoch: int = 0,
        kept: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.guard = Guard(causes(run), nonce, damp_s=run.robot.stop_damp_s, restarted=restarted, kept=kept)
        self.run, self._next_epoch, self._epoch = run, next_epoch, epoch
        self._evidence = Evidence(run.robot)
        self._cameras = dict.fromkeys(looked_through(run), NEVER)  # when each was heard last
        self._hand = Held()
        self._heard: dict[str, int] = {}  # stream -> arrival of its newest message, ns
        self._joints: m.Joints | None = None
        self._drive: m.Drive | None = None
        self._imu: m.Imu | None = None
        self._used_action: int = NEVER
        self._nan_action = False
        self._unkept = ""  # why the recorder can keep nothing more
        self._overruns_in_row = 0
        self._errors: deque[tuple[int, int]] = deque()  # when, and bad frames until then
        self._stale_imu = 0
        self._commands: list[Command] = []
        self._human = NEVER
        self._boots: dict[str, int] = {}  # source -> the life of it that spoke last
        self._down: dict[str, int] = {}  # who died, with the life that did: only another one's word brings it back
        self._over = False
        self._powered = NEVER  # when the last permit was made, if it gave torque
        self._began = NEVER
        self._crash_loop = ""
        self._ended = ""
        self._reset = ""
        self._asks = ""  # what the reset asks a person to set up
        self._astray = ""  # the joint that a person must turn back first
        self._obedience = Obedience(run.robot.stop_damp_s, restarted)
        self.outputs: Outputs | None = None
        self._refused = ("", NEVER)  # the last refusal and when: the operator must have time to read it

    def hear(self, message: m.Message, now: int) -> None:
        """Take one message that arrived at `now`."""
        if self._down.get(message.source, message.boot) != message.boot:
            del self._down[message.source]
        self._boots[message.source] = message.boot
        match message:
            case m.Beat():  # the commonest: that it came is all it says
                self._heard[message.source] = now
                if message.source == "recorder":
                    self._unkept = message.note
                return
            case m.Operator():
                return self._take_operator(message, now)
            case m.Reset():
                self._reset = message.outcome
                self._asks = message.reason if message.outcome == "asks" else self._asks
            case m.Joints():
                self._joints = message
            case m.Applied():
                if message.writer in ("policy", "reset"):
                    self._used_action = now
                self._nan_action = message.refused == "nan_action"
            case m.Drive():
                self._take_drive(message, now)
            case m.Imu():
                self._imu = message
                self._stale_imu = self._stale_imu + 1 if message.stale else 0
            case m.Image():
                if message.camera not in self._cameras:
                    return
                self._cameras[message.camera] = now
            case m.Teleop():
                self._hand.hear(message)
            case m.Process():
                self._take_process(message)
            case m.Episode():
                self._ended = message.ended
        self._evidence.hear(message)
        self._heard[type(message).__name__] = now

    def informed(self) -> bool:
        """Whoever says what a judgement needs has spoken."""
        needed = {"Drive", "Joints", "Operator"} | ({"Imu"} if "imu" in self.run.robot.senses else set())
        return needed <= self._heard.keys()

    def step(self, now: int) -> tuple[m.Permit, m.Guard]:
        """One judgement; the permit to send and the state to show."""
        led = self._hand.look(now, self.outputs)
        inputs = self._inputs(now)
        out = self.guard.step(now, inputs)
        if out.next_epoch:
            with contextlib.suppress(OSError):  # no disk, no lease: nobody moves the robot until its number can be kept
                self._epoch = self._next_epoch()
        self._commands, self._ended = [], ""
        self._obedience.asked(out.stop == "off")
        self.outputs = out
        self._powered = now if out.torque else NEVER
        permit = m.Permit(
            source="guard", t=now, state=str(out.state), epoch=out.epoch, holder=out.holder, torque=out.torque,
            speed_scale=out.speed_scale, hold=out.hold,
        )  # fmt: skip
        if out.refused or out.trigger:  # a state that has changed makes an old refusal untrue
            self._refused = (out.refused[0], now) if out.refused else ("", NEVER)
        asked = self._told.get(out.causes[0] if out.causes else "", out.note)
        if out.state == "CHECK" and not (self._joints and self._drive):  # what nobody has said yet is not too hot
            asked = inputs.check_note
        if self._drive is not None and self._joints is not None:
            asked = way_down(self.run.robot, self._drive, self._joints, out) or asked
        if out.state == "PSTOP" and self._obedience.untold:
            asked += "; d ends in LOCKOUT"
        note = self._refused[0] if 0 <= now - self._refused[1] < READ_NS and self._refused[1] != NEVER else asked
        shown = m.Guard(
            source="guard", t=now, state=str(out.state), causes=out.causes, last_cause=out.last_cause,
            session=out.session, epoch=out.epoch, holder=out.holder, nonce=out.nonce, note=note,
            trigger=out.trigger, led=led and out.state == "RUN",
        )  # fmt: skip
        return permit, shown

    @property
    def _told(self) -> dict[str, str]:
        """What a person is told of a cause in the place of its note, where more is known."""
        told = {"set_up": f"{self._asks}; stand clear, press run"} if self._asks else {}
        told |= {"turned": self._astray} if self._astray else {}
        return told | ({"hand_gone": f"the hand that led is gone: {self._hand.why}; press run"} if self._hand.why else {})

    def _take_drive(self, drive: m.Drive, now: int) -> None:
        late = self._drive is not None and drive.overruns > self._drive.overruns
        self._overruns_in_row = self._overruns_in_row + 1 if late else 0
        self._drive = drive
        while self._errors and now - self._errors[0][0] > LATE_FRAME_S * 1e9:
            self._errors.popleft()
        self._errors.append((now, drive.frame_errors))
        # A servo that did not answer three times running counts as silent, as in the catalogue.
        reached = drive.present and (self._joints is None or min(self._joints.missed) <= MUTE)
        self._obedience.hear(drive, reached, self.outputs is not None and self.outputs.torque)

    def _take_operator(self, key: m.Operator, now: int) -> None:
        role = key.role if key.source == "gateway" else key.source  # the gateway knows its peers by their keys
        if key.command not in (*LABELLING, *HANDS):
            late = now - key.t > m.KEY_NS  # it waited while this process slept: who pressed it may stand elsewhere now
            self._commands.append(Command(key.command, role, UNANSWERED if late else key.nonce))
        if role != "console":  # nobody's word but a console's says that somebody supervises
            return
        self._heard["Operator"] = now
        if key.source == "gateway":  # a console elsewhere is there in the place of one that died here
            self._down.pop("console", None)
        if key.command == "beat":
            ago_s = min(max(0.0, key.value), LARGEST) if math.isfinite(key.value) else LARGEST
            self._human = max(self._human, now - int(ago_s * 1e9))
        else:
            self._human = now

    def _take_process(self, event: m.Process) -> None:
        if event.event == "died":
            name = "console" if event.name == "operator" else event.name
            self._down[name] = self._boots.get(name, NEVER)
        if event.event == "gave up":
            self._crash_loop = event.name
        if event.event == "stopping":
            self._over = True

    def _inputs(self, now: int) -> Inputs:
        joints, drive, imu = self._joints, self._drive, self._imu
        note = lacking(self.run, joints, drive, imu, self._heard)
        self._astray = astray(self.run.robot, joints.position) if joints is not None and not any(joints.missed) else ""
        blind = drive is not None and drive.lowers and self._age("Joints", now) > SILENT_S  # on a port that has just come back
        speaks = drive is not None and drive.present and self._age("Drive", now) < SILENT_S
        self._began = now if self._began == NEVER else self._began
        return Inputs(
            epoch=self._epoch,
            commands=tuple(self._commands),
            checks_passed=not note,
            turned=bool(self._astray),
            check_note=note,
            still=joints is not None and not blind and all([abs(v) < STILL_RAD_S for v in joints.velocity]),
            drive_age_s=self._age("Drive", now),
            torque_on=drive is not None and (drive.gate_open or not speaks),
            lowering=drive is not None and speaks and drive.lowers,
            holding=drive is not None and drive.stop == "hold",  # its last word, however late the next is
            let_go=drive is not None and speaks and not drive.gate_open,
            port_lost=drive is not None and not drive.present,
            stop_unconfirmed=self._obedience.lacking(now, speaks),
            permit_lapsed=self._powered != NEVER and now - self._powered > PERMIT_VALID_NS,
            rescue_gone=drive is not None and drive.unrescued,
            overruns_in_row=self._overruns_in_row,
            missed_in_row=max(joints.missed) if joints else 0,
            bus_missed_in_row=min(joints.missed) if joints else 0,
            frame_error_rate=self._frame_error_rate(),
            temp_c=hottest(joints, self.run.robot) if joints else math.nan,
            servo_fault=joints is not None and (any(joints.fault) or 1 in joints.mode),
            servo_timeout=joints is not None and 11 in joints.mode,
            imu_age_s=self._age("Imu", now),
            imu_same_in_row=self._stale_imu and 5,
            imu_implausible_in_row=imu.refused if imu is not None else 0,
            tilt_rad=max(abs(imu.roll), abs(imu.pitch)) if imu and math.isfinite(imu.roll + imu.pitch) else math.nan,
            pose_age_s=self._age("Pose", now),
            camera_gone=self._evidence.unplugged or any(0 <= at < now - UNSEEN_NS for at in self._cameras.values()),
            action_age_s=math.inf if self._used_action == NEVER else (now - self._used_action) * 1e-9,
            nan_action=self._nan_action,
            policy_dead="policy" in self._down,
            reset_dead="reset" in self._down,
            tracker_dead="tracker" in self._down,
            console_dead="console" in self._down,
            manager_gone="manager" in self._down,
            manager_silent=not self._over and now - self._heard.get("manager", now) > GONE_NS,  # a rehearsal has none
            run_over=self._over,
            hand_gone=self._hand.gone,
            recorder_gone=now - self._heard.get("recorder", now) > GONE_NS,  # a policy keeps more than it says in that time
            unkept=bool(self._unkept),
            learner_gone="learner" in self._down or now - self._heard.get("learner", self._began + BEGIN_NS) > GONE_NS,
            crash_loop=bool(self._crash_loop),
            console_age_s=self._age("Operator", now),
            human_age_s=math.inf if self._human == NEVER else (now - self._human) * 1e-9,
            episode_ended=self._ended,
            reset_outcome=self._reset,
            **self._evidence.fields(),
        )

    def _frame_error_rate(self) -> float:
        if len(self._errors) < 2:
            return 0.0
        frames = len(self._errors) * 2 * len(self.run.robot.servos.ids)
        return (self._errors[-1][1] - self._errors[0][1]) / frames

    def _age(self, stream: str, now: int) -> float:
        heard = self._heard.get(stream)
        return math.inf if heard is None else (now - heard) * 1e-9


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "guard")
    try:
        epochs = EpochFile(node.directory / "epoch")
    except Complaint as error:
        return node.refuse(error)
    with contextlib.suppress(OSError):  # then it is tried again with the first lease
        epochs.reserve()
    restarted, of_robot = "--restarted" in argv, "--lockout" in argv
    path = Path(argv[argv.index("--lockout") + 1]) if of_robot else node.directory / "lockout"
    lockout = LockoutFile(path, node.directory.resolve())
    if not restarted and of_robot and lockout.causes():
        return node.refuse(f"{path}: the robot is locked out, and nobody has inspected it since: robotrl inspect")
    if not restarted:  # with no file of a robot's this is a twin
        lockout.forget()
    sentry = Sentry(node.run, epochs.next, lambda: secrets.randbits(48), restarted, epochs.value, lockout.causes())
    node.pace(19)
    awake = Vigil(node, sentry, lockout, LISTEN_NS if restarted else 0).serve()
    if not awake:
        node.say("slept for longer than its permits hold; it begins anew")
    if node.orphaned():
        node.abandon()
    node.close()
    return 0 if awake else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
