"""The guard's state machine: what it knows of the robot in, one permit out. Pure: no clock, no files.

Two tables say it all. `AFTER_CAUSE`: where the most severe cause takes each state. `AFTER_COMMAND`: which key
does something where. What is left are the moves nobody asks for (`Guard._move_on`): checks passed, an episode or
a reset ended, a stop that has come to rest.

A *session* is what the operator opens with `run`. Inside it episodes and resets follow each other without a
key; any cause that no budget forgives, a pause, and four hours end it. Without one nothing enters RUN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from robotrl.safety.causes import Cause, Clear, Command, Inputs, Severity, State
from robotrl.safety.halt import Halt
from robotrl.safety.ledger import Ledger

NS = 1_000_000_000
STOP_NS = 300_000_000  # a ramp to rest takes no longer; after it STOPPING goes on, still or not
NONCE_NS, NONCE_EVERY_NS = 5 * NS, NS  # how long one is good, and how often there is a new one
PSTOP_NS = 600 * NS
SESSION_NS = 4 * 3600 * NS
LIMP_NS = 200_000_000  # a driver that has had the permit for so long and keeps torque off will not put it on
HEARD_S = 0.06  # a driver that was heard so lately is believed
RESUME_S = 0.2  # all must be well for so long before a session goes on after a cause its budget forgave


class Powers(NamedTuple):
    """What a state permits; the default is nothing."""

    torque: bool = False
    holder: str = ""
    speed_scale: float = 1.0


POWERS = {state: Powers() for state in State} | {
    State.HOLD: Powers(True),
    State.RUN: Powers(True, "policy"),
    State.RESET: Powers(True, "reset", 0.5),
    State.STOPPING: Powers(True, "", 0.5),
    State.PSTOP: Powers(True, "", 0.5),
}

_B, _C, _Y, _H, _RUN, _RST, _S, _P, _X, _L = State
# No cause leads from a state without torque to one with it: from READY a stop is RELAX, not PSTOP.
AFTER_CAUSE: dict[State, tuple[State, ...]] = {
    # state  NONE  WARN  HOLD  STOPPING PSTOP RELAX LOCKOUT
    _B: (_B, _B, _B, _B, _B, _B, _L),
    _C: (_C, _C, _C, _C, _C, _C, _L),
    _Y: (_Y, _Y, _C, _C, _X, _X, _L),
    _H: (_H, _H, _H, _S, _P, _X, _L),
    _RUN: (_RUN, _RUN, _H, _S, _P, _X, _L),
    _RST: (_RST, _RST, _H, _S, _P, _X, _L),
    _S: (_S, _S, _S, _S, _P, _X, _L),
    _P: (_P, _P, _P, _P, _P, _X, _L),
    _X: (_X, _X, _X, _X, _X, _X, _L),
    _L: (_L, _L, _L, _L, _L, _L, _L),
}
AFTER_COMMAND: dict[tuple[State, str], State] = {
    (_C, "clear"): _C,
    (_C, "disable"): _C,  # an arm on its way down, held by a stop key, goes on: here, in READY and in RELAX
    (_Y, "disable"): _Y,
    (_Y, "enable"): _H,
    (_H, "run"): _RUN,
    (_H, "reset"): _RST,
    (_H, "disable"): _Y,
    (_H, "clear"): _H,
    (_H, "pause"): _H,  # here and in RELAX it ends a session that would go on by itself
    (_RUN, "pause"): _H,
    (_RST, "pause"): _H,
    (_P, "clear"): _H,
    (_P, "disable"): _X,  # to less power, and still latched
    (_X, "clear"): _Y,
    (_X, "disable"): _X,
    (_X, "pause"): _X,
}
STARTS = ("enable", "run", "reset")  # refused while anything stands


class Outputs(NamedTuple):
    """The permit's fields, what the console shows, and what the node has to do (`next_epoch`)."""

    state: State
    epoch: int
    holder: str
    torque: bool
    speed_scale: float
    causes: tuple[str, ...]  # active or latched, most severe first
    last_cause: str
    session: bool
    nonce: int
    note: str  # what the operator is asked to do
    stop: str  # the stop profile's stage: "" (torque on), "damp", "off"
    hold: bool  # an arm that is being lowered is to stay where it is
    next_epoch: bool  # a lease waits: persist epoch + 1, then give it in Inputs.epoch
    refused: tuple[str, ...] = ()  # why this step's commands were not obeyed
    trigger: str = ""  # what changed the state in this step: a cause's id, a key and whose it was, what came to its end


class Guard:
    """One robot's guard. `new_nonce` gives a number nobody can guess; `damp_s` is the stop profile's damping.

    `restarted`: the process died and was started again. It begins in PSTOP, where it keeps torque on only if
    the driver says that it is; `clear` then leads to HOLD, otherwise to READY. `kept`: causes that stood in its earlier life
    and that only a person's restart of everything ends.
    """

    def __init__(
        self,
        rows: tuple[Cause, ...], new_nonce: Callable[[], int], *,
        damp_s: float = 1.0, restarted: bool = False, kept: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.ledger = Ledger(rows)
        self.state = State.PSTOP if restarted else State.BOOT
        self.session = False
        self._new_nonce = new_nonce
        self._nonces: dict[int, int] = {}  # each with the time it was made
        self._damp_ns = round(damp_s * NS)
        self._restarted = restarted
        self._kept = {row.id for row in rows if row.id in kept and row.clear is Clear.RESTART}
        self._limp = False  # PSTOP without torque: the driver has switched it off, or was started again
        self._entered = self._opened = 0
        self._torque, self._stop, self._trigger = False, "off", ""
        self._off_since: int | None = None
        self._halt = Halt()
        self._first, self._epoch = True, -1
        self._granted = self._reset_began = False  # the lease, the script, of this visit to RUN or RESET

    def step(self, now: int, inputs: Inputs) -> Outputs:
        """One step at `now` (ns), every 20 ms. Causes come first, then keys, then what follows by itself."""
        raised = self._raised(now, inputs)
        before = self.state
        self._reset_began |= before is State.RESET and self._granted and inputs.reset_outcome == "running"
        if not self._reset_began and inputs.reset_outcome in ("done", "failed", "asks"):  # still of the reset before this one
            inputs = inputs._replace(reset_outcome="")
        self.session = self.ledger.judge(now, before, self._entered, self.session, inputs, raised)
        self._trigger = ""
        if (after := AFTER_CAUSE[before][self.ledger.worst()]) is not before:
            self._enter(now, after, self._cause(inputs))
        refused = tuple(
            f"{command.name}: {why}"
            for command in inputs.commands
            if command.name != "stop" and (why := self._obey(now, inputs, command))
        )
        if self.state is before:
            self._enter(now, *self._move_on(now, inputs))
        return self._outputs(now, inputs, refused)

    def _raised(self, now: int, inputs: Inputs) -> set[str]:
        """The causes that only the guard itself can see."""
        raised = {"operator_stop"} if any([command.name == "stop" for command in inputs.commands]) else set()
        self._limp |= self.state is State.PSTOP and not inputs.torque_on and now - self._entered > LIMP_NS
        if self._first:
            self._first, self._epoch, self._entered = False, inputs.epoch, now
            if self._restarted:
                raised |= {"guard_restart"} | self._kept
                self._limp = not inputs.torque_on or inputs.port_lost or not inputs.drive_age_s <= HEARD_S
        if self.session and now - self._opened > SESSION_NS:
            raised.add("session_over")
        if self.state is State.PSTOP and now - self._entered > PSTOP_NS:
            raised.add("pstop_long")
        return raised

    def _cause(self, inputs: Inputs) -> str:
        """The cause that moves the state, as the log names it: a stop by a key with whose key it was."""
        id = self.ledger.foremost()
        by = [command.role for command in inputs.commands if command.name == "stop"]
        return f"{id} ({by[0]})" if id == "operator_stop" and by else id

    def _enter(self, now: int, state: State, why: str) -> None:
        if state is not self.state:
            if self.state is State.PSTOP and state is not State.READY:  # heat, ten minutes, `disable`: it is to come down
                self._halt.forget()
            self.state, self._entered, self._trigger = state, now, why
            self._granted = self._reset_began = self._limp = False

    def _obey(self, now: int, inputs: Inputs, command: Command) -> str:
        """Do what the key asks, or say why not."""
        if command.role != "console":
            return "only the console may"
        if (state := AFTER_COMMAND.get((self.state, command.name))) is None:
            return f"nothing to do in {self.state}"
        made = self._nonces.pop(command.nonce, None)
        if command.name != "pause" and (made is None or now - made >= NONCE_NS):  # pause only makes less motion
            return "not in answer to what the console shows now: press again"
        settled = {row.id for row in self.ledger.rows.values() if row.answer == command.name}
        if command.name in STARTS:
            for row in self.ledger.standing():
                if row.action > Severity.WARN and row.id not in settled - self.ledger.active:
                    return f"{row.id} stands: {row.note}"
        if command.name == "enable" and not inputs.checks_passed:
            return inputs.check_note or "checks do not pass"
        if command.name == "clear":
            if why := self.ledger.refusal(now) if inputs.still else "the robot still moves":
                return why
            if self.state is State.PSTOP and self._limp:
                state = State.READY
            settled = set(self.ledger.latched)
        if command.name in ("disable", "enable"):
            self._halt.forget()
        self.ledger.latched -= settled
        self.session = command.name == "run"
        if self.session:
            self._opened = now
            self.ledger.spent.clear()  # a person has looked
        self._enter(now, state, f"key {command.name} ({command.role})")
        return ""

    def _move_on(self, now: int, inputs: Inputs) -> tuple[State, str]:
        """Where the state goes by itself when neither a cause nor a key moved it in this step, and why."""
        state = self.state
        if state is State.BOOT:
            return State.CHECK, "started"
        if state is State.READY and not inputs.checks_passed:
            return State.CHECK, inputs.check_note or "checks no longer pass"
        if state is State.CHECK and inputs.checks_passed and self.ledger.worst() <= Severity.WARN:
            return State.READY, "checks passed"
        if state is State.RUN and inputs.episode_ended:
            return State.RESET, f"episode ended: {inputs.episode_ended}"
        if state is State.RESET and inputs.reset_outcome == "done":
            return (State.RUN if self.session else State.HOLD), "reset done"
        if state is State.STOPPING and (inputs.still or now - self._entered >= STOP_NS):
            latched = any(self.ledger.rows[id].action >= Severity.STOPPING for id in self.ledger.latched)
            rest = State.PSTOP if latched else State.HOLD if self.ledger.worst() < Severity.STOPPING else state
            return rest, f"at rest after {self.ledger.last}"
        rested = state is State.HOLD or (state is State.RELAX and self._stop == "off")
        if rested and self.session and inputs.still and self.ledger.quiet(now, RESUME_S):
            return State.RESET, f"the session goes on after {self.ledger.last}"
        return state, ""

    def _stage(self, now: int) -> str:
        damping = self._off_since is not None and now - self._off_since < self._damp_ns
        return "" if self._torque else "damp" if damping and self.state is not State.LOCKOUT else "off"

    def _hold(self, now: int, inputs: Inputs) -> bool:
        """Is an arm on its way down to stay where it is? From a stop key on, until `disable`; whatever is permitted. A PSTOP is
        such a key in each step, but for one that is on its way down already."""
        if self.state is State.LOCKOUT:  # which nothing leaves
            return False
        stands = self.state is State.PSTOP and (inputs.holding or not inputs.lowering)
        pressed = stands or any([command.name == "stop" for command in inputs.commands])
        unseen = inputs.port_lost or not inputs.drive_age_s <= HEARD_S  # a driver's way down goes on when it is back
        hold = self._halt.step(now, pressed, inputs.lowering or unseen)
        if hold and inputs.lowering:
            self._off_since = now  # the stop profile has all its time again when it goes on
        return hold

    def _lease(self, inputs: Inputs) -> bool:
        """Grant the lease under a higher epoch than ever; true while one is wanted and not there yet."""
        if not POWERS[self.state].holder or self._granted:
            return False
        if inputs.epoch > self._epoch:
            self._epoch, self._granted = inputs.epoch, True
        return not self._granted

    def _outputs(self, now: int, inputs: Inputs, refused: tuple[str, ...]) -> Outputs:
        powers = POWERS[self.state]
        torque = powers.torque and not self._limp
        if self._torque and not torque:
            self._off_since = now
        self._torque = torque
        hold, self._stop, next_epoch = self._hold(now, inputs), self._stage(now), self._lease(inputs)
        standing = self.ledger.standing()
        return Outputs(
            state=self.state,
            epoch=self._epoch,
            holder=powers.holder if self._granted else "",
            torque=torque,
            speed_scale=powers.speed_scale,
            causes=tuple([row.id for row in standing]), last_cause=self.ledger.last,
            session=self.session,
            nonce=self._nonce(now),
            note=self._note(now, inputs, refused, standing),
            stop=self._stop, hold=hold,
            next_epoch=next_epoch,
            refused=refused, trigger=self._trigger,
        )  # fmt: skip

    def _nonce(self, now: int) -> int:
        """The newest nonce; a new one each second, and at once when it was used."""
        self._nonces = {nonce: made for nonce, made in self._nonces.items() if now - made < NONCE_NS}
        newest = max(self._nonces, key=self._nonces.__getitem__, default=None)
        if newest is None or now - self._nonces[newest] >= NONCE_EVERY_NS:
            newest = self._new_nonce()
            self._nonces[newest] = now
        return newest

    def _note(self, now: int, inputs: Inputs, refused: tuple[str, ...], standing: list[Cause]) -> str:
        if refused:
            return refused[0]
        for row in standing[:1]:
            by_answer = (self.state, row.answer) in AFTER_COMMAND
            clear = row.id in self.ledger.latched and not by_answer and not self.ledger.refusal(now)
            return f"{row.note}; press clear" if clear else row.note
        ended = self.state is State.RELAX and not self.session  # nothing stands, and nothing goes on by itself
        return inputs.check_note if self.state is State.CHECK else "press clear" if ended else ""
