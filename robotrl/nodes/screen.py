"""What the operator sees: `draw`, a pure function of a `View`. Plain ASCII, so that any terminal shows it.

Whatever a colour says, a word beside it says too: LATE, SLOW, UNCONFIRMED. The first four lines and the last
two are always on the screen, however small it is; the rest gives way.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from robotrl.messages import Beat, Joints, Teleop
from robotrl.nodes.panels import BAD, DIM, WARN, Part, account_lines, fact, facts, line, servos
from robotrl.nodes.view import SECOND, View, clean, span, stop_status
from robotrl.topics import TOPICS

STATES = {  # colour of the banner, and what the state means
    "BOOT": ("bold white on blue", "starting; torque off"),
    "CHECK": ("bold white on blue", "checking before anything may move; torque off"),
    "READY": ("bold white on blue", "torque off; e switches it on"),
    "HOLD": ("bold black on yellow", "torque on, standing still; r runs, R resets"),
    "RUN": ("bold black on green", "THE ROBOT MOVES: the policy drives it"),
    "RESET": ("bold black on cyan", "THE ROBOT MOVES: the reset script drives it"),
    "STOPPING": ("bold white on red", "coming to rest"),
    "PSTOP": ("bold white on red", "stopped: it holds its last goals; c clears"),
    "RELAX": ("bold white on red", "stopped: damped or lowered, then off; c clears"),
    "LOCKOUT": ("bold white on magenta", "CUT THE MOTOR POWER; inspect, then restart"),
}
UNKNOWN = ("bold white on red", "a state this console does not know")
LEVELS = {
    "good": "bold green",
    "plain": "bold",
    "warn": "bold yellow",
    "bad": BAD,
    "alarm": "bold white on red",
}
KEYS = "e enable|r run|SPACE STOP|c clear|p pause|R reset|d off|sf+- rate|? help|q quit"
HELP = """\
e      enable: torque on, it holds its pose   + -  good, bad: what you just saw
r      run: opens a session, and it moves     h    held down: good, each step
SPACE  QUICK STOP, from any state; Ctrl-C     s f  success, fail: it ends there
c      clear, once the cause is gone          S F  the same of the last episode
p      pause: stand still; r goes on          x    end it, without a verdict
R      reset: by script, or by your hands     N    no success in the last one
d      disable: torque off                    u U  take back the last, seconds
o b    take over from the policy; hand back   m n  a mark; a note, to ENTER
82469371  lead it: docs/takeover.md           t ?  try the keyboard; this page
q      leave: asks again, says what stops     v    a camera's picture, the next

A quick stop is no emergency stop: keep a switch for the motor supply in reach.
POWER says CONFIRMED only when every servo was read back with its torque off.
Keys that come in a burst (a paste, a slow line) are refused; SPACE never is.
A label means what was on the screen a moment ago, and never another step. It
changes what is learned from later. LATE: nothing for 3 periods; SLOW: under
80 % of its rate; idle: not needed now; STUCK: its loop stands; GONE: for good."""
UNSHOWN = ("operator", "beat", "wire", "thought", "transition", "ack", "picture", "depth", "motion")  # what is said to no person
NEEDED_IN = {"action": ("RUN", "RESET"), "episode": ("RUN",), "reset": ("RESET",)}  # all others: always
ANSWERED_NS = SECOND // 4  # a note that comes so soon after a key is the answer to it
REPLY_NS = 4 * SECOND  # how long it is shown
LEFT = 35  # columns of the table of streams


def draw(view: View, now: int, width: int = 80, height: int = 24) -> Text:
    """The whole screen at time `now` (ns): exactly `height` lines of at most `width` characters."""
    top = [*banner(view, now, width, 3 if height >= 30 else 1), *asked(view, now)]
    bottom = [pressed(view, now), keys_line()]
    room = max(0, height - len(top) - len(bottom))
    if view.middle is not None and not view.help:
        middle = view.middle(now, width, room)
    elif view.help:
        middle = [line(), *(line(f" {text}") for text in HELP.splitlines())]
    else:
        middle = [line(), *body(view, now), alive(view, now)]
        joints = view.get("joints", Joints)
        if joints is not None and room - len(middle) >= len(joints.position) + 5:
            middle += [line(), *servos(joints, view.temp_limit_c, view.board_limit_c)]
        if room - len(middle) >= 4:
            middle.append(line())
        middle += events(view, now, room - len(middle))
    middle = [*middle[:room], *(line() for _ in range(room - len(middle)))]
    rows = [*top, *middle, *bottom]
    if len(rows) > height:  # fewer lines than the fixed ones: the state first, the keys last
        rows = [*rows[: height - 1], rows[-1]] if height > 1 else rows[:1]
    for row in rows:
        row.truncate(width)
    screen = Text("\n", no_wrap=True, overflow="crop", end="").join(rows)
    screen.end = ""
    return screen


def banner(view: View, now: int, width: int, rows: int) -> list[Text]:
    """The state, as a bar across the screen: colour, word and meaning."""
    guard = view.guard()
    who = ""
    if guard is None or not view.guard_heard(now):
        last = f" (was {guard.state})" if guard else ""
        word, style = "NO GUARD", "bold white on red"
        meaning = f"silent {span(view.age('guard', now))}{last}: HAND ON THE POWER SWITCH"
    else:
        word = guard.state
        style, meaning = STATES.get(word, UNKNOWN)
        who = f"lease: {guard.holder or 'nobody'} #{guard.epoch} "
        if (hand := leading(view)) is not None:
            meaning, who = "THE ROBOT MOVES: A PERSON LEADS IT", f"{who}by {hand.device} "
    text = clean(f"{' TWIN' if view.twin else ''} {word:<9} {meaning}")
    text = text + " " * max(2, width - len(text) - len(who)) + clean(who)
    bar, blank = line((text[:width].ljust(width), style)), line((" " * width, style))
    return [blank, bar, line((" " * width, style))] if rows == 3 else [bar]


def asked(view: View, now: int) -> list[Text]:
    """Three lines: what the operator is asked to do, why the robot stands, whether a stop is confirmed."""
    guard = view.guard()
    note = clean(guard.note) if guard else ""
    said: list[Part] = (
        [(note or hand_said(view, now), "bold yellow")] if note or hand_said(view, now) else [("nothing asked", DIM)]
    )
    when, reply = view.reply
    after = when - view.keys[-1][0] if view.keys else -1
    if reply and 0 <= after < ANSWERED_NS and now - when < REPLY_NS:
        key = view.keys[-1][2]  # the guard begins a refusal with the key's command itself
        said = [(clean(reply if reply.startswith(f"{key}: ") else f"{key}: {reply}"), "bold yellow")]
    causes = ", ".join(map(clean, guard.causes)) if guard else ""
    last = f"none now; the last was {clean(guard.last_cause)}" if guard and guard.last_cause else "none"
    word, detail, level = stop_status(view, now)
    session = "   session open" if guard and guard.session else ""
    return [
        fact(" DO", *said, (session, DIM)),
        fact(" CAUSE", (causes, BAD) if causes else (last, DIM)),
        fact(" POWER", (word, LEVELS[level]), "  " + clean(detail)),
    ]


def leading(view: View) -> Teleop | None:
    """The word of a person who leads the robot now; None while nobody does."""
    hand, guard = view.get("teleop", Teleop), view.guard()
    mine = hand is not None and guard is not None and hand.active and hand.epoch == guard.epoch and guard.holder == "policy"
    return hand if mine else None


def hand_said(view: View, now: int) -> str:
    """What there is to know of taking over: while a person leads, when his device is gone, and for a moment after a key."""
    hand = view.get("teleop", Teleop)
    if hand is None:
        return ""
    if leading(view) is not None:
        keys = "8 2 4 6 9 3 7 1 move it; " if hand.device == "keyboard" else ""
        return f"{clean(hand.note)}: {keys}b hands back"
    new = hand.note.startswith("GONE") or (hand.note and now - view.hand_at < REPLY_NS)
    return clean(hand.note) if new else ""


def body(view: View, now: int) -> list[Text]:
    """Streams on the left; the robot and what it learns on the right."""
    left, right = [*streams(view, now), *account_lines(view)], facts(view)
    rows = []
    for index in range(max(len(left), len(right))):
        row = left[index] if index < len(left) else line()
        row.truncate(LEFT, pad=True)
        rows.append(row.append_text(right[index]) if index < len(right) else row)
    return rows


def streams(view: View, now: int) -> list[Text]:
    """Each periodic stream: true rate, expected rate, age, and a word when it is not as it should be."""
    rows = [line((f" {'stream':<8}{'Hz':>5}{'of':>5}{'age':>9}", DIM))]
    for row in stream_rows(view, now):
        word = (f"  {row.word}" if row.word else "", {"idle": DIM, "SLOW": WARN}.get(row.word, DIM if row.early else BAD))
        rows.append(line(f" {row.topic[:8]:<8}{row.rate_hz:>5.0f}", (f"{row.of_hz:>5.0f}", DIM), f"{span(row.age):>9}", word))
    return rows


class StreamRow(NamedTuple):
    """A stream as it stands. `word`: NONE, LATE, SLOW, idle, or nothing; `early`: nobody expects it yet."""

    topic: str
    rate_hz: float
    of_hz: float
    age: int | None  # ns
    word: str
    early: bool


def stream_rows(view: View, now: int) -> list[StreamRow]:
    """The streams that a person is shown."""
    rows, guard = [], view.guard()
    for topic, entry in TOPICS.items():
        if entry.rate_hz == 0 or topic in UNSHOWN:
            continue
        stream, age = view.stream(topic), view.age(topic, now)
        if topic in ("image", "teleop", *view.absent) and stream is None:  # most robots have no camera; in most runs nobody leads
            continue
        needed = guard is None or guard.state in NEEDED_IN.get(topic, (guard.state,))
        rate = stream.rate_hz(now) if stream else 0.0
        late = age is None or age > max(3 * SECOND / entry.rate_hz, 0.06 * SECOND)
        early = age is None and topic == "learner" and "learner_gone" not in (guard.causes if guard else ())
        word = ""
        if late:
            word = ("NONE" if age is None else "LATE") if needed else "idle"
        elif needed and rate < 0.8 * entry.rate_hz:
            word = "SLOW"
        rows.append(StreamRow(topic, rate, entry.rate_hz, age, word, early))
    return rows


def alive(view: View, now: int) -> Text:
    """The nodes' heartbeats. STUCK: it speaks, but its loop does not go round. GONE: it died too often, and stays down."""
    parts: list[Part] = [(f"{source} GONE  ", BAD) for source in sorted(view.gone)]
    starting = []
    for source in TOPICS["beat"].sources:
        stream = view.streams.get(("beat", source))
        if source in view.gone:
            continue
        if stream is None or not isinstance(stream.newest, Beat):
            starting += [] if source in view.absent else [source]
        elif now - stream.newest.t > SECOND:
            parts.append((f"{source} LATE {span(now - stream.newest.t)}  ", BAD))
        elif now - stream.moved > SECOND:
            parts.append((f"{source} STUCK  ", BAD))
        else:
            parts.append(f"{source} ok  ")
    return fact(" alive", *parts, (f"starting: {' '.join(starting)}" if starting else "", DIM))


def events(view: View, now: int, rows: int) -> list[Text]:
    """What happened to processes, and causes, newest first."""
    recent = list(reversed(view.events))[: max(0, rows)]
    return [line((f" {span(now - when):>7} ago  ", DIM), clean(what)) for when, what in recent]


def pressed(view: View, now: int) -> Text:
    """The last keys, newest first; or the question that the first q asks."""
    if view.leave_asked is not None and now - view.leave_asked < 2 * SECOND:
        lost = f"; may lose {n} reward{'s' * (n > 1)} not kept yet" if (n := view.unkept) else ""
        what = "You watch: the robot goes on without you." if view.watching else f"Leaving stops the robot{lost}."
        return line((f" {what} q again to leave. ", "bold black on yellow"))
    if view.typed is not None:
        return line((f" note: {view.typed}_ ", "bold black on yellow"), " ENTER ends it; SPACE stops the robot")
    if view.watching and not view.keys:
        why = "YOUR KEY IS A VIEWER'S" if view.afar else "ANOTHER CONSOLE SUPERVISES"
        return line((f" {why}: you watch. SPACE stops the robot from here too. ", "bold black on yellow"))
    if not view.keys:
        answer = "does not answer" if view.answered is None else f"answers in {span(view.answered)}"
        return fact(" keys", f"press t to try the keyboard; nothing moves. Terminal {answer}")
    parts: list[Part] = []
    for index, (when, key, did) in enumerate(reversed(view.keys)):
        parts.append((f"{key} {did} {span(now - when)} ago   ", "bold" if index == 0 else DIM))
    return fact(" keys", *parts)


def keys_line() -> Text:
    parts: list[Part] = []
    for pair in KEYS.split("|"):
        key, _, what = pair.partition(" ")
        urgent = key == "SPACE"
        parts += [
            " ",
            (key, "bold white on red" if urgent else "bold"),
            (f" {what}", "bold" if urgent else DIM),
        ]
    return line(*parts)
