"""What a page shows of a run: the console's view in plain numbers and words, ready for JSON. Pure."""

from __future__ import annotations

import math
from typing import Any

from robotrl.account import Figures
from robotrl.messages import Ack, Beat, Drive, Episode, Joints, Learner, Reset
from robotrl.nodes.panels import succeeded, walks
from robotrl.nodes.screen import STATES, UNKNOWN, stream_rows
from robotrl.nodes.view import SECOND, View, span, stop_status
from robotrl.topics import TOPICS


def status(view: View, now: int) -> dict[str, Any]:
    """All that is known at `now` (ns); what is no finite number is null."""
    guard, heard = view.guard(), view.guard_heard(now)
    word, detail, level = stop_status(view, now) if guard is not None else ("UNKNOWN", "nothing is heard of its motors", "warn")
    shown = {
        "run": view.run,
        "live": heard,
        "state": guard.state if guard is not None and heard else "NO GUARD" if guard is not None else "NOT LIVE",
        "meaning": _meaning(view, now),
        "causes": list(guard.causes) if guard else [],
        "last_cause": guard.last_cause if guard else "",
        "note": guard.note if guard else "",
        "lease": guard.holder if guard else "",
        "session": bool(guard and guard.session),
        "power": {"word": word, "detail": detail, "level": level},
        "streams": [
            {"topic": r.topic, "hz": r.rate_hz, "of": r.of_hz, "age_ms": None if r.age is None else r.age / 1e6,
             "word": "" if r.early else r.word}
            for r in stream_rows(view, now)
        ],
        "nodes": _nodes(view, now),
        "episode": _fields(view.get("episode", Episode), "episode", "step", "total_steps", "total_return", "speed",
                           "policy_version", "policy_age_s", "ended", "transitions", "dropped"),
        "success": None if walks(view) or not view.ends else succeeded(view),
        "learner": _fields(view.get("learner", Learner), "updates", "updates_per_s", "critic_loss", "actor_loss", "entropy",
                           "temperature", "engine", "owed", "labels", "relabelled"),
        "reset": _fields(view.get("reset", Reset), "stage", "attempt", "outcome", "reason"),
        "servos": _fields(view.get("joints", Joints), "position", "velocity", "torque", "temp_c", "board_c", "voltage", "fault",
                          "missed"),
        "loop": _fields(view.get("drive", Drive), "late_us", "overruns", "frame_errors"),
        "account": _account(view),
        "labels": list(ack.labels) if (ack := view.get("ack", Ack)) is not None else None,
        "events": [{"ago": span(now - when), "what": what} for when, what in reversed(view.events)],
    }  # fmt: skip
    return {key: _plain(value) for key, value in shown.items()}


def _meaning(view: View, now: int) -> str:
    """Of the state."""
    guard = view.guard()
    if guard is None:
        return "this run is not live; below is what it has left"
    if not view.guard_heard(now):
        return f"guard silent {span(view.age('guard', now))}"
    return STATES.get(guard.state, UNKNOWN)[1]


def _nodes(view: View, now: int) -> dict[str, str]:
    """Each node's heartbeat in a word."""
    words = {}
    for source in TOPICS["beat"].sources:
        stream = view.streams.get(("beat", source))
        if stream is not None and isinstance(stream.newest, Beat):
            late, stuck = now - stream.newest.t > SECOND, now - stream.moved > SECOND
            words[source] = "LATE" if late else "STUCK" if stuck else "ok"
    return words | dict.fromkeys(sorted(view.gone), "GONE")


def _fields(message: Any, *names: str) -> dict[str, Any] | None:
    return None if message is None else {name: getattr(message, name) for name in names}


def _account(view: View) -> dict[str, Any] | None:
    ack = view.get("ack", Ack)
    if ack is None or len(ack.account) != len(Figures._fields):
        return None
    figures = Figures._make(ack.account)
    return figures._asdict() | {"autonomy": figures.autonomy, "mtbf_s": figures.mtbf_s}


def _plain(value: Any) -> Any:
    """Without what JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
