"""The books over the table of causes: which is seen, which is active, which latched, and what a budget has forgiven."""

from __future__ import annotations

from robotrl.safety.causes import Cause, Clear, Inputs, Severity, State


class Ledger:
    """Which causes are active and which latched. Times in ns."""

    def __init__(self, rows: tuple[Cause, ...]) -> None:
        self.rows = {row.id: row for row in rows}
        if len(self.rows) != len(rows):
            raise ValueError("two causes have one id; give each its own")
        self._watched = tuple((row.signal, row.above, row) for row in rows if row.signal)
        self.active: set[str] = set()
        self.latched: set[str] = set()
        self.last = ""  # the newest that did more than warn, once there was something to stop
        self._since: dict[str, int] = {}  # first seen, without a break until now
        self._seen: dict[str, int] = {}  # last time active
        self.spent: dict[str, list[int]] = {}  # of each budget

    def judge(self, now: int, state: State, entered: int, session: bool, inputs: Inputs, raised: set[str]) -> bool:
        """Bring the books up to `now`; true while the session, if there is one, may go on."""
        seen = raised | self._seen_in(now, state, entered, inputs)
        for id in self._since.keys() - seen:  # a break: its debounce begins anew
            del self._since[id]
            self.active.discard(id)
        entering = []
        for row in self.rows.values() if seen else ():
            if row.id not in seen:
                continue
            if now - self._since.setdefault(row.id, now) < row.debounce_s * 1e9:
                continue
            self._seen[row.id] = now
            if row.id not in self.active:
                self.active.add(row.id)
                entering.append(row)
        return self._enter(entering, now, state, session)

    def _seen_in(self, now: int, state: State, entered: int, inputs: Inputs) -> set[str]:
        """The rows whose signal shows them, where and when they are judged."""
        shown = [row for signal, above, row in self._watched if not getattr(inputs, signal) <= above]  # and not `>`: nan shows
        return {row.id for row in shown if state in row.states and now - entered >= row.grace_s * 1e9}

    def _enter(self, rows: list[Cause], now: int, state: State, session: bool) -> bool:
        """Those that come in one step: a session goes on only if its budgets forgive every one of them, in whatever order."""
        rows = [row for row in rows if row.action > Severity.WARN]
        goes_on = session and all([self._forgiven(row, now) for row in rows])
        starting = state in (State.BOOT, State.CHECK)  # nothing is on: what is wrong only has to go away
        for row in rows:
            if starting and row.clear is not Clear.RESTART:
                continue
            self.last = row.id
            if not goes_on and row.clear is not Clear.AUTO:
                self.latched.add(row.id)
        return goes_on

    def _forgiven(self, row: Cause, now: int) -> bool:
        if row.budget is None:
            return False
        spent = [t for t in self.spent.get(row.budget.name, []) if now - t < row.budget.seconds * 1e9]
        self.spent[row.budget.name] = [*spent, now]
        return len(spent) < row.budget.count

    def standing(self) -> list[Cause]:
        """Active or latched, most severe first."""
        rows = [self.rows[id] for id in self.active | self.latched]
        return sorted(rows, key=lambda row: (-row.action, row.id))

    def worst(self) -> Severity:
        standing = self.standing()
        return standing[0].action if standing else Severity.NONE

    def foremost(self) -> str:
        """Of the most severe that stand the one that came last: it is what moved the state. '' when none stands."""
        worst = self.worst()
        return max((row.id for row in self.standing() if row.action is worst), key=lambda id: self._since.get(id, -1), default="")

    def quiet(self, now: int, seconds: float) -> bool:
        """Nothing that does more than warn stands, or was active in the last `seconds`."""
        recent = (self.rows[id].action for id, t in self._seen.items() if now - t < seconds * 1e9)
        return max(recent, default=Severity.NONE) <= Severity.WARN >= self.worst()

    def refusal(self, now: int) -> str:
        """Why the latched causes may not be cleared yet, or ''."""
        for id in sorted(self.latched):
            row = self.rows[id]
            if row.clear is Clear.RESTART:
                return f"{id} needs a restart after inspection"
            if id in self.active:
                return f"{id} is still there: {row.note}"
            wait = max(1.0, row.cooldown_s) if row.clear is Clear.OPERATOR_COOLDOWN else 1.0
            if now - self._seen.get(id, now) < wait * 1e9:
                return f"{id} has not been gone for {wait:g} s"
        return ""
