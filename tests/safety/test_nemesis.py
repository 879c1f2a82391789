"""The nemesis: its checker finds each of the twelve broken, in a history that is else sound; and twenty schedules on the live tree.

The histories here are written by hand, line by line: no process of the product makes them. The schedules are the bench's, made short:
they follow each other on one tree, and none waits until the robot walks again, so most of them find it in the midst of a recovery.
"""

from __future__ import annotations

import copy
import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = str(ROOT / "bench")
MS = 1_000_000
IDS = [1, 2]
HOSTS = (("80", 0x00), ("fe", 0x7E), ("fd", 0x7D), ("fc", 0x7C))
CONFIG = {
    "robot": {
        "servos": {"ids": IDS, "sign": [1, -1], "offset": [0.0, 0.0], "watchdog_s": 0.1},
        "limits": {"position_min": 0.4, "position_max": 3.6, "slew_rad_s": 45.0, "lead_rad": 1.8, "gap_min": 0.1},
    },
    "task": {"rate_hz": 50.0},
}  # fmt: skip


@pytest.fixture
def checker(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    before = set(sys.modules)
    import bookkeeping
    import invariants
    import schedule
    import told

    def check(records):
        history = told.History(records)
        return {v.invariant for v in (*invariants.check(history), *bookkeeping.check(history))}

    check.draw = schedule.draw
    yield check
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(BENCH):
            del sys.modules[name]


def f32(value):
    return struct.pack("<f", value).hex()


def goal(servo, angle):
    turns = CONFIG["robot"]["servos"]["sign"][IDS.index(servo)] * angle / (2 * math.pi)
    return f"can send 00{servo:02x} 01000a0d20{f32(turns)}02237f7f0d25{f32(3.0)}0e27{f32(0.1)}{f32(4.0)}5050\n"


def reply(servo, host, angle, mode):
    turns = CONFIG["robot"]["servos"]["sign"][IDS.index(servo)] * angle / (2 * math.pi)
    return f"rcv {servo << 8 | host:x} 2100{mode:02x}2f01{f32(turns)}{f32(0)}{f32(0)}210a14230d200000\r\n"


class Tale:
    """A sound history of 3 s: checked, enabled, held, run, stopped by a fault, off. Two servos; each record a dict in `records`."""

    def __init__(self):
        self.records = [{"t": 0, "k": "begin", "config": CONFIG}]
        self.seq = dict.fromkeys(("permit", "guard", "operator", "action"), 0)
        for n, name in enumerate(("manager", "twin", "guard", "rescue", "servos", "policy")):
            self.add(1, "born", name=name, pid=100 + n, at=0)
            for t in (1, 1000, 2000):
                self.add(t, "weight", name=name, pid=100 + n, kb=50_000, fds=30, port=int(name in ("servos", "rescue")))
        self.was, self.state, self.position = "CHECK", "CHECK", 2.0
        for n in range(150):
            self.cycle(n, 20 * n + 10)
        lines = [f"{r['m']['t']} {r['m']['state']} <- {r['m']['trigger']} []" for r in self.records if r.get("topic") == "guard"]
        self.add(2995, "log", name="guard", lines=lines)
        self.add(2996, "recovered", count=60, durable=40, rows=[[0, s] for s in range(60)], labels=[], acked=[])
        self.add(2999, "ended", code=0, said="", left=[])

    def add(self, ms, kind, **what):
        self.records.append({"t": round(ms * MS), "k": kind, **what})

    def say(self, ms, topic, source, **m):
        if topic in self.seq:
            self.seq[topic] += 1
        self.add(ms + 1, "bus", topic=topic, source=source, m={"boot": 7, "seq": self.seq.get(topic, 0), "t": round(ms * MS), **m})

    def cycle(self, n, ms):
        """One period: permit, question, answer, goal or stop, and what is said of it."""
        plan = {10: ("READY", ""), 20: ("HOLD", "enable"), 40: ("RUN", "run"), 100: ("PSTOP", ""), 120: ("RELAX", "disable")}
        self.state, key = plan.get(n, (self.state, ""))
        moved, trigger = self.state != self.was, ""
        if key:
            self.say(ms - 15, "operator", "console", command=key, nonce=1000 + n - 1, press=n)
            trigger = f"key {key} (console)"
        elif moved:
            trigger = "servo_fault" if self.state == "PSTOP" else "checks passed"
        causes = ["servo_fault"] if self.state in ("PSTOP", "RELAX") else []
        torque, holder = self.state in ("HOLD", "RUN", "PSTOP"), "policy" if self.state == "RUN" else ""
        self.say(ms, "permit", "guard", state=self.state, epoch=1 if n >= 40 else 0, holder=holder, torque=torque)
        self.say(ms, "guard", "guard", state=self.state, causes=causes, last_cause="", trigger=trigger, nonce=1000 + n,
                 session=self.state == "RUN")  # fmt: skip
        self.was = self.state
        if self.state == "RUN":
            self.say(ms + 1, "action", "policy", epoch=1, target=[self.position] * 2)
            self.position = 2.0 + 0.2 * math.sin(0.3 * n)
        self.wire(n, ms + 4, torque)

    def wire(self, n, ms, torque):
        word, host = HOSTS[n % 4]
        mode = 10 if torque and n > 20 else 0
        self.add(ms, "in", wire="servos", v="".join(f"can send {word}{i:02x} 11001f01110a130d\n" for i in IDS))
        self.add(ms + 1, "modes", wire="servos", v=[mode] * 2)
        at = [self.position, 2 * math.pi - 3.2 - self.position + 0.5]
        self.add(ms + 1, "out", wire="servos", v="".join(reply(i, host, a, mode) for i, a in zip(IDS, at, strict=True)))
        self.add(ms, "out", wire="imu", v=33)
        self.add(ms, "out", wire="tracker", v=f"pose {n} 30000 {n}.000000 0.000000 0.100000 0.0 0.0 0.0 *AB\n")
        self.say(ms + 1, "pose", "tracker", position=[float(n), 0.0, 0.1], rpy=[0.0] * 3)
        self.records[-1]["m"]["t"] = round((ms - 30) * MS)
        self.say(ms + 1, "imu", "imu", stale=False)
        kinds = [goal(i, a) if torque else f"can send 00{i:02x} 010000\n" for i, a in zip(IDS, at, strict=True)]
        self.add(ms + 2, "in", wire="servos", v="".join(kinds))
        common = {"t": round((ms - 0.5) * MS), "tick": n}
        self.say(ms + 3, "joints", "servos", position=at, missed=[0, 0], **common)
        self.say(ms + 3, "drive", "servos", powered_off_confirmed=mode == 0, **common)
        writer = "policy" if self.state == "RUN" else "hold" if torque else "off"
        self.say(ms + 3, "applied", "servos", writer=writer, epoch=1, action_seq=self.seq["action"] if writer == "policy" else -1)
        self.say(ms + 3, "episode", "policy", transitions=min(60, max(0, n - 40)))


@pytest.fixture(scope="module")
def sound():
    return Tale().records


def of(records, topic):
    return [r for r in records if r.get("topic") == topic]


def last_goal(records, state="RUN"):
    """The record of the last write of goals while the permit had this state."""
    until = max(r["m"]["t"] for r in of(records, "permit") if r["m"]["state"] == state)
    return [r for r in records if r["k"] == "in" and "01000a0d20" in r["v"] and r["t"] <= until][-1]


def goal_after_the_end(r):
    r.append({"t": 2_900 * MS, "k": "in", "wire": "servos", "v": goal(1, 2.0)})


def goal_out_of_range(r):
    last_goal(r)["v"] = goal(1, 3.7) + goal(2, 1.0)


def goal_that_leaps(r):
    last_goal(r)["v"] = goal(1, 3.3) + goal(2, 1.0)


def goal_that_is_no_number(r):
    last_goal(r)["v"] = goal(1, math.nan)


def action_twice(r):
    a, b = [x for x in of(r, "applied") if x["m"]["writer"] == "policy"][-2:]
    b["m"]["action_seq"] = a["m"]["action_seq"]


def action_of_an_old_lease(r):
    next(x for x in of(r, "applied") if x["m"]["writer"] == "policy")["m"]["epoch"] = 0


def action_too_old(r):
    of(r, "action")[20]["m"]["t"] -= 100 * MS


def two_drivers(r):
    r.append({"t": 1_500 * MS, "k": "born", "name": "servos", "pid": 999, "at": 1_500 * MS})


def a_stranger_on_the_line(r):
    r.append({"t": 1_503 * MS, "k": "in", "wire": "servos", "v": "can send 0001 01000a0f\n"})


def port_open_elsewhere(r):
    r.append({"t": 1_500 * MS, "k": "weight", "name": "policy", "pid": 105, "kb": 1, "fds": 9, "port": 1})


def moves_after_the_stop(r):
    stopped = [x for x in r if x["k"] == "in" and "01000a0d20" in x["v"]][-3]
    stopped["v"] = goal(1, 2.1) + goal(2, 1.4)


def policy_moves_on(r):
    t = 1_400 * MS
    r.append({"t": t, "k": "deed", "deed": {"at": 0, "do": "kill", "name": "policy"}, "whom": {}})


def servo_runs_on(r):
    deed = {"at": 0, "do": "kill", "name": "servos"}
    t = 1_400 * MS
    r[:] = [x for x in r if not (x["k"] in ("in", "out", "modes") and t < x["t"] < t + 300 * MS)]
    r.append({"t": t, "k": "deed", "deed": deed, "whom": {}})


def stop_left_by_nobody(r):
    for topic in ("guard", "permit"):
        for x in of(r, topic)[110:120]:
            x["m"]["state"] = "HOLD"


def stop_left_by_an_old_number(r):
    next(x for x in of(r, "operator") if x["m"]["command"] == "run")["m"]["nonce"] = 5


def guard_begins_in_hold(r):
    for x in of(r, "guard")[25:]:
        x["m"]["boot"], x["m"]["seq"] = 8, x["m"]["seq"] - 25


def transitions_lost(r):
    next(x for x in r if x["k"] == "recovered")["count"] = 59


def a_gap_in_the_replay(r):
    del next(x for x in r if x["k"] == "recovered")["rows"][10]


def label(r, **kept):
    r.append({"t": 1_500 * MS, "k": "bus", "topic": "label", "source": "console",
              "m": {"boot": 7, "seq": 1, "t": 1_500 * MS, "press": 3, "tick": 70, "value": 1.0}})  # fmt: skip
    next(x for x in r if x["k"] == "recovered").update(kept)


def label_lost(r):
    label(r, acked=[[7, 3]])


def label_doubled(r):
    label(r, labels=[[7, 3, 70, 1.0]] * 2)


def label_moved(r):
    label(r, labels=[[7, 3, 71, 1.0]])


def reading_of_before(r):
    of(r, "joints")[60]["m"]["position"] = of(r, "joints")[50]["m"]["position"]


def pose_said_to_be_young(r):
    of(r, "pose")[60]["m"]["t"] += 100 * MS


def pose_twice(r):
    of(r, "pose")[60]["m"]["position"] = of(r, "pose")[59]["m"]["position"]


def attitude_of_before(r):
    r[:] = [x for x in r if not (x.get("wire") == "imu" and 1_000 * MS < x["t"] < 1_200 * MS)]


def files_without_end(r):
    r.append({"t": 2_500 * MS, "k": "weight", "name": "guard", "pid": 102, "kb": 50_000, "fds": 500, "port": 0})


def memory_without_end(r):
    for s in (16, 60):
        r.append({"t": s * 1000 * MS, "k": "weight", "name": "guard", "pid": 102, "kb": 5_000 * s, "fds": 30, "port": 0})


def stop_without_a_cause(r):
    for x in of(r, "guard"):
        x["m"]["causes"], x["m"]["trigger"] = [], ""


def stop_not_in_the_log(r):
    lines = next(x for x in r if x["k"] == "log")["lines"]
    lines[:] = [line for line in lines if "servo_fault" not in line]


def said_to_be_off(r):
    of(r, "drive")[60]["m"]["powered_off_confirmed"] = True


def ended_well_with_torque(r):
    r.append({"t": 2_997 * MS, "k": "modes", "wire": "servos", "v": [0, 10]})


DOCTORED = {
    "I1": (goal_after_the_end,),
    "I2": (goal_out_of_range, goal_that_leaps, goal_that_is_no_number),
    "I3": (action_twice, action_of_an_old_lease, action_too_old),
    "I4": (two_drivers, a_stranger_on_the_line, port_open_elsewhere),
    "I5": (moves_after_the_stop, policy_moves_on, servo_runs_on),
    "I6": (stop_left_by_nobody, stop_left_by_an_old_number, guard_begins_in_hold),
    "I7": (transitions_lost, a_gap_in_the_replay),
    "I8": (label_lost, label_doubled, label_moved),
    "I9": (reading_of_before, pose_said_to_be_young, pose_twice, attitude_of_before),
    "I10": (files_without_end, memory_without_end),
    "I11": (stop_without_a_cause, stop_not_in_the_log),
    "I12": (said_to_be_off, ended_well_with_torque),
}


def test_a_sound_history_breaks_nothing(checker, sound):
    assert checker(sound) == set()


@pytest.mark.parametrize(("invariant", "doctor"), [(i, d) for i, doctors in DOCTORED.items() for d in doctors])
def test_a_doctored_one_is_found(checker, sound, invariant, doctor):
    records = copy.deepcopy(sound)
    doctor(records)
    assert invariant in checker(records)


def test_a_schedule_is_its_seeds_alone_and_json(checker):
    one = checker.draw(5, 8.0, 40)
    assert one == checker.draw(5, 8.0, 40) == json.loads(json.dumps(one)) and one != checker.draw(6, 8.0, 40)
    assert {deed["do"] for deed in one} >= {"kill", "stop", "wire", "full", "clock"}


def test_twenty_schedules_break_nothing(tmp_path):
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "robotrl", "bench", "nemesis", "--schedules", "20", "--seconds", "1.2", "--deeds", "3", "--wait", "0.5",
         "--no-shrink", "--keep", str(tmp_path / "keep"), "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["schedules"] == 20 and result["violations"] == {} and sum(result["deeds"].values()) == 60
