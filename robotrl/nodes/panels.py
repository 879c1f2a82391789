"""The parts of the operator's screen that tell of the robot and of what it learns; `screen.draw` puts them in
place.
"""

from __future__ import annotations

import math

from rich.text import Text

from robotrl.account import Figures
from robotrl.messages import Ack, Beat, Classified, Drive, Episode, Imu, Joints, Learner, Pose, Reset
from robotrl.nodes.view import SECOND, View, clean, span
from robotrl.rewards.keyboard import SUCCESSES

BAD, WARN, DIM = "bold red", "yellow", "dim"
Part = str | tuple[str, str]


def line(*parts: Part) -> Text:
    """One line that is cropped, never wrapped."""
    return Text.assemble(*parts, no_wrap=True, overflow="crop", end="")


def fact(name: str, *parts: Part) -> Text:
    return line((f"{name:<8}", DIM), *parts)


def flag(text: str, bad: bool, style: str = BAD) -> Part:
    return (text, style) if bad else text


def finite(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "NOT FINITE"


def facts(view: View) -> list[Text]:
    """The right half: episode, policy, learner, servos, loop, posture, disk."""
    rows = [*episode_lines(view), *learner_lines(view)]
    rows += label_lines(view)
    if (joints := view.get("joints", Joints)) is not None:
        rows += servo_lines(joints, view.temp_limit_c, view.board_limit_c)
    if drive := view.get("drive", Drive):
        skipped = flag(f"  {drive.overruns} overruns", drive.overruns > 0, WARN)
        broken = flag(f"  {drive.frame_errors} bad frames", drive.frame_errors > 0, WARN)
        rows.append(fact("loop", f"late {drive.late_us:.0f} us", skipped, broken))
    guard = view.guard()
    if "imu" not in view.absent or "pose" not in view.absent or (guard is not None and guard.state == "RESET"):
        rows.append(posture(view))
    if view.disk_free is not None:
        full = view.disk_free < 2**30
        text = f"{view.disk_free / 2**30:.1f} GiB free" + (" LOW" if full else "")
        rows.append(fact("disk", flag(text, full)))
    return rows


def episode_lines(view: View) -> list[Text]:
    episode, last = view.get("episode", Episode), view.last
    if episode is None:
        return [fact("episode", ("none yet", DIM))]
    lost = flag(f"  lost {episode.dropped}", True, WARN) if episode.dropped else ""
    rows = [fact("episode", ("none yet", DIM), f"  replay {episode.transitions}", lost)]
    if episode.episode >= 0:
        score = finite(episode.total_return, "+.1f"), "bold"
        speed: list[Part] = ["  speed ", (finite(episode.speed, "+.2f"), "bold"), " m/s  "]
        went = [*speed, flag(f"falls {view.falls}", view.falls > 0, WARN)] if walks(view) else [f"  {succeeded(view)}"]
        rows = [
            fact("episode", f"{episode.episode}  step {episode.step}  replay {episode.transitions}", lost),
            fact("return", score, *went),
        ]
    if last:
        end = finite(last.total_return, "+.1f") + (f"  speed {finite(last.speed, '+.2f')} m/s" if walks(view) else "")
        rows.append(fact("last", f"{end}  {clean(last.ended)}"))
    return [*rows, fact("policy", policy(episode, view.agent.random_steps))]


LONGEST_S = 1e9  # 31 years: what is older is a wrong number
DONE = ("success", *SUCCESSES)  # how an episode ends that succeeded


def walks(view: View) -> bool:
    """Whether it has a speed and can fall: an arm has no IMU."""
    return "imu" not in view.absent


def succeeded(view: View) -> str:
    """How many of the last episodes did, by the task's word or a verdict."""
    done = sum(end in DONE for end in view.ends)
    return f"success {done} of the last {len(view.ends)}" if view.ends else "success: none has ended yet"


def policy(episode: Episode, random_steps: int) -> str:
    """Whose actions these are, and how long ago the learner wrote the weights."""
    if episode.policy_version < 0:
        return "no weights yet: random actions"
    age = span(int(min(max(0.0, episode.policy_age_s), LONGEST_S) * SECOND)) if math.isfinite(episode.policy_age_s) else "?"
    random = f"; random to step {random_steps}" if episode.total_steps < random_steps else ""
    return f"v{episode.policy_version}, {age} old{random}"


def learner_lines(view: View) -> list[Text]:
    learner, beat = view.get("learner", Learner), view.streams.get(("beat", "learner"))
    if learner is None or (beat is not None and beat.newest.boot != learner.boot and beat.newest.t > learner.t):
        doing = clean(beat.newest.note) if beat is not None and isinstance(beat.newest, Beat) else ""
        return [fact("learner", (f"starting{doing and ': '}{doing}", DIM))]
    worth = learner.transitions - view.agent.learn_after  # the first transitions owe no update
    engine = clean(learner.engine)
    if not learner.updates or worth <= 0:
        return [fact("learner", f"begins after step {view.agent.learn_after}, {engine}")]
    per_step = learner.updates / worth
    slow = flag(" SLOW", True, WARN) if per_step < 0.95 * view.agent.updates_per_step else ""
    losses = f"critic {finite(learner.critic_loss, '.3g')}  actor {finite(learner.actor_loss, '.3g')}"
    heat = f"entropy {finite(learner.entropy, '.2f')}  temperature {finite(learner.temperature, '.3g')}"
    sick = not (math.isfinite(learner.critic_loss) and math.isfinite(learner.actor_loss))
    return [
        fact("learner", f"{learner.updates} upd {per_step:.2f}/step", slow, f" {learner.updates_per_s:.0f}/s {engine}"),
        fact("loss", flag(losses, sick)),
        fact("", flag(heat, not math.isfinite(learner.temperature))),
        *debt(learner, view.agent.updates_per_step),
    ]


def account_lines(view: View) -> list[Text]:
    """Who moved the robot so far, and what it cost a person; a few lines at the left."""
    ack = view.get("ack", Ack)
    if ack is None or len(ack.account) != len(Figures._fields):
        return []
    f = Figures._make(ack.account)
    if not f.moved_s:
        return []
    apart = f", {f.mtbf_s / 60:.0f} min apart" if f.failures else ""
    return [
        fact(" robot", f"{f.autonomy:.0%} by itself, {(f.run_s + f.reset_s) / 60:.0f} min"),
        fact(" person", f"{f.touches:.0f} touches, {f.interventions:.0f} interventions"),
        *([fact(" led", f"{f.led_s:.0f} s by hand")] if f.led_s else []),
        fact(" failed", f"{f.failures:.0f}{apart}"),
    ]


def label_lines(view: View) -> list[Text]:
    """How many labels were given here and are kept, and what they did to what is learned from."""
    given, kept = view.labels
    ack, learner = view.get("ack", Ack), view.get("learner", Learner)
    _, waiting, refused = ack.labels if ack is not None else (0, 0, 0)
    parts: list[Part] = [flag(f"{kept} of {given} kept", kept < given, WARN)] if given else []
    if refused:
        parts.append(flag(f"  {refused} REFUSED", True, WARN))
    if waiting:
        parts.append(f"  {waiting} waiting")
    if learner is not None and learner.relabelled:
        parts.append(f"  {learner.relabelled} rows")
    return [*([fact("rewards", *parts)] if parts else []), *classifier_lines(view)]


def classifier_lines(view: View) -> list[Text]:
    """The learned reward: whether it is given, what it says of the newest frame, and where a person said otherwise."""
    said = view.get("classifier", Classified)
    if said is None:
        return []
    name = f"v{said.version} " if said.version else ""
    rows = [fact("learned", f"{name}gives rewards, p {finite(said.probability, '.2f')}", "  JUDGE THIS ONE TOO" * said.audit)]
    if said.why:
        rows = [fact("learned", flag(f"{name}NOT USED: {clean(said.why)}", True, WARN))]
    if said.disagreements:
        rows.append(fact("", flag(f"{said.disagreements} DISAGREE: {clean(said.last)}", True, WARN)))
    return rows


def debt(learner: Learner, updates_per_step: float) -> list[Text]:
    """Updates that the data is worth and that were not done: shown once they are more than ten steps' worth, or lost."""
    if learner.owed <= 10 * updates_per_step and not learner.dropped:
        return []
    lost = f", {learner.dropped} DROPPED" if learner.dropped else ""
    return [fact("", flag(f"owes {learner.owed} updates{lost}", True, WARN))]


def heats(joints: Joints, limit_c: float, board_limit_c: float) -> list[tuple[float, float, str]]:
    """Of each servo what is nearest to its limit: by how much, the temperature, and "board " where it is its board's."""
    out = []
    for i, temp in enumerate(joints.temp_c):
        own = temp - limit_c, temp, ""
        board = (joints.board_c[i] - board_limit_c, joints.board_c[i], "board ") if joints.board_c else own
        out.append(max(own, board, key=lambda heat: (math.isnan(heat[0]), heat[0])))
    return out


def servo_lines(joints: Joints, limit_c: float, board_limit_c: float = math.inf) -> list[Text]:
    """Hottest servo, lowest voltage, faults and misses by servo number (1 is the first motor)."""
    found = heats(joints, limit_c, board_limit_c)
    hot = max(range(len(found)), key=lambda i: (math.isnan(found[i][0]), found[i][0]), default=0)
    over, temp, what = found[hot] if found else (math.nan, math.nan, "")
    warm = not over < -10
    heat = f"{what}{finite(temp, '.0f')} C in no. {hot + 1}" + (" HOT" if warm else "")
    faults = " ".join(f"{i + 1}:{code}" for i, code in enumerate(joints.fault) if code)
    missed = " ".join(f"{i + 1}:{count}" for i, count in enumerate(joints.missed) if count)
    return [
        fact("servos", flag(heat, warm), f", {finite(min(joints.voltage, default=math.nan), '.1f')} V"),
        fact(
            "",
            flag(f"FAULT {faults}" if faults else "no fault", bool(faults)),
            ", ",
            flag(f"MISSED {missed}" if missed else "none missed", bool(missed)),
        ),
    ]


def posture(view: View) -> Text:
    """Attitude and place; while the reset script works, how far it is."""
    imu, pose, reset = view.get("imu", Imu), view.get("pose", Pose), view.get("reset", Reset)
    guard = view.guard()
    if reset and guard and guard.state == "RESET":
        return fact("reset", clean(f"{reset.stage}, attempt {reset.attempt}, {reset.outcome} {reset.reason}"))
    parts: list[Part] = []
    if imu:
        roll, pitch = math.degrees(imu.roll), math.degrees(imu.pitch)
        parts.append(f"roll {finite(roll, '+.0f')} pitch {finite(pitch, '+.0f')} deg ")
        parts.append(flag("STALE " if imu.stale else "", imu.stale))
    if pose:
        parts.append(f"x {finite(pose.position[0], '+.2f')} m")
    return fact("posture", *(parts or [("unknown", DIM)]))


def servos(joints: Joints, limit_c: float, board_limit_c: float = math.inf) -> list[Text]:
    """One line a servo, for screens with room."""
    found = heats(joints, limit_c, board_limit_c)
    rows = [line((" servo   angle rad  speed rad/s  torque Nm  temp C  volts  mode  fault  missed", DIM))]
    for i, angle in enumerate(joints.position):
        rows.append(
            line(
                f" {i + 1:>5}   {angle:>+9.3f}  {joints.velocity[i]:>+11.2f}  {joints.torque[i]:>+9.2f}  ",
                flag(f"{found[i][1]:>6.1f}", not found[i][0] < -10),
                f"  {joints.voltage[i]:>5.1f}  {joints.mode[i]:>4}  ",
                flag(f"{joints.fault[i]:>5}", joints.fault[i] != 0),
                "  ",
                flag(f"{joints.missed[i]:>6}", joints.missed[i] != 0),
            )
        )
    return rows
