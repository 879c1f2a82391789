"""What a key of the operator's says of the robot's steps: a label, bound to what was on the screen when it was meant. Pure."""

from __future__ import annotations

from robotrl.labels import said
from robotrl.messages import Label
from robotrl.nodes.repeats import HELD_NS
from robotrl.nodes.view import SECOND, Frame, Said, View

LATE_NS = 5 * SECOND  # after an episode's end a key still speaks of its last step


def label(command: str, press: int, view: View, now: int) -> Label | str:
    """The label that a key of this command gives, not numbered yet; or why there is none."""
    if command in ("mark", "note"):
        frame = view.frame(now)
        named = dict(life=frame.life, episode=frame.episode, step=frame.step, tick=frame.tick) if frame else dict(tick=-1)
        text = (view.typed or "").replace("_", " ") if command == "note" else ""
        return Label(press=press, value=0.0, kind=command, text=text, **named)  # type: ignore[arg-type]
    if command in ("undo", "undo seconds"):
        return _undo(press, view, now, last=command == "undo")
    frame = view.frame(now)
    if frame is None or frame.episode < 0 or frame.step < 0:
        return "no step was on the screen yet"
    if command in ("last success", "last fail", "last no"):
        return _relabel(command.removeprefix("last "), press, view)
    if frame.over and now - view.ended_at > LATE_NS:
        return f"episode {frame.episode} is over: S and F judge it again"
    if command == "end" and frame.over:
        return f"episode {frame.episode} is over"
    if command == "hold":
        return _held(frame, press, view, now)
    kind = "add" if command in ("good", "bad") else command
    value = 0.0 if command == "end" else getattr(view.settings, command)
    return _of(frame, press, kind, value)


def _of(frame: Frame, press: int, kind: str, value: float, first: int = -1) -> Label:
    return Label(press=press, value=value, kind=kind, life=frame.life, episode=frame.episode, step=frame.step, tick=frame.tick,
                 first=first)  # fmt: skip


def _held(frame: Frame, press: int, view: View, now: int) -> Label | str:
    """A reward for each step since the last repeat of a key that is held; nothing where no step has come since."""
    before = view.held
    going_on = before is not None and now - before.t < HELD_NS and before.label.episode == frame.episode
    if not going_on or before is None:
        return _of(frame, press, "add", view.settings.hold)
    if frame.step <= before.label.step:
        view.held = before._replace(t=now)
        return ""
    return _of(frame, press, "add", view.settings.hold, first=before.label.step + 1)


def _relabel(kind: str, press: int, view: View) -> Label | str:
    """A verdict, at its last step, on the episode that ended last; or that nothing in it was a success."""
    if (last := view.last) is None or last.step < 1:
        return "no episode has ended here yet"
    frame = Frame(0, last.boot, last.episode, last.step - 1, last.tick, True)
    return _of(frame, press, kind, getattr(view.settings, kind, 0.0), first=0 if kind == "no" else -1)


def _undo(press: int, view: View, now: int, last: bool) -> Label | str:
    """Takes back the last label given here, or those of the last seconds."""
    since = now - int(view.settings.undo_s * SECOND)
    back = [s for s in view.given if s.t >= since] if not last else list(view.given)[-1:]
    if not back:
        return "nothing to take back" + ("" if last else f" in {view.settings.undo_s:g} s")
    return Label(press=press, value=0.0, tick=-1, kind="undo", undoes=(back[0].label.giver, back[0].number, back[-1].number))


def remember(view: View, given: Label, now: int) -> str:
    """Note a label that was given, with its number; what to tell the person."""
    view.held = None
    if given.kind == "undo":
        _, first, last = given.undoes
        gone = [s for s in view.given if first <= s.number <= last]
        for item in gone:
            view.given.remove(item)
        what = said(gone[0].label) if len(gone) == 1 else f"{len(gone)} labels"
        return f"took back {what}: later samples have it so, updates done stay"
    if given.kind != "end":  # an episode does not go on again
        view.given.append(Said(now, given.number, given))
    return said(given)
