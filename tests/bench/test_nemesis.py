"""The nemesis: its checker finds each of twelve invariants broken in an else sound history; twenty schedules on the live tree.

The histories are written by hand: no process of the product makes them. The schedules are the bench's, made short: they follow
each other on one tree, and none waits until the robot walks again, so most of them find it in the midst of a recovery.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robotrl import config, roster
from tests.bench.conftest import BENCH
from tests.bench.tale import CONFIG, IDS, MS, Tale, goal, of, reply
from tests.bench.unkept import UNKEPT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sound():
    return Tale().records


def last_goal(records, state="RUN"):
    """The record of the last write of goals while the permit had this state."""
    until = max(r["m"]["t"] for r in of(records, "permit") if r["m"]["state"] == state)
    return [r for r in records if r["k"] == "in" and "01000a0d20" in r["v"] and r["t"] <= until][-1]


def goal_after_the_end(r):
    r.append({"t": 2_900 * MS, "k": "in", "wire": "servos", "v": goal(1, 2.0)})


def goes_on_after_a_suspension(r):
    """Its permits are young: by a clock that stood still."""
    t = min(x["t"] for x in of(r, "guard") if x["m"]["state"] == "RUN") + 100 * MS
    r.append({"t": t, "k": "deed", "deed": {"at": 0, "do": "suspend", "s": 3600.0}, "whom": {}})


def goal_out_of_range(r):
    last_goal(r)["v"] = goal(1, 3.7) + goal(2, 1.0)


def goal_that_leaps(r):
    last_goal(r)["v"] = goal(1, 3.3) + goal(2, 1.0)


def goal_beyond_the_lead(r):
    until = last_goal(r)
    for x in r:  # the joints stay behind
        if x["k"] == "out" and x["wire"] == "servos" and until["t"] - 130 * MS < x["t"] <= until["t"]:
            x["v"] = "".join(reply(i, 0, 0.5, 10) for i in IDS)
    until["v"] = goal(1, 2.5) + goal(2, 1.4)


def goal_that_stretches_a_leg(r):
    last_goal(r)["v"] = goal(1, 2.5) + goal(2, 0.4)
    for x in r:
        if x["k"] == "begin":
            x["config"] = {**CONFIG, "robot": {**CONFIG["robot"], "limits": {**CONFIG["robot"]["limits"], "gap_min": 3.0}}}


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


def reading_of_before(r):
    of(r, "joints")[60]["m"]["position"] = of(r, "joints")[50]["m"]["position"]


def pose_said_to_be_young(r):
    of(r, "pose")[60]["m"]["t"] += 130 * MS


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
    "I1": (goal_after_the_end, goes_on_after_a_suspension),
    "I2": (goal_out_of_range, goal_that_leaps, goal_beyond_the_lead, goal_that_stretches_a_leg, goal_that_is_no_number),
    "I3": (action_twice, action_of_an_old_lease, action_too_old),
    "I4": (two_drivers, a_stranger_on_the_line, port_open_elsewhere),
    "I5": (moves_after_the_stop, policy_moves_on, servo_runs_on),
    "I6": (stop_left_by_nobody, stop_left_by_an_old_number, guard_begins_in_hold),
    **UNKEPT,
    "I9": (reading_of_before, pose_said_to_be_young, pose_twice, attitude_of_before),
    "I10": (files_without_end, memory_without_end),
    "I11": (stop_without_a_cause, stop_not_in_the_log),
    "I12": (said_to_be_off, ended_well_with_torque),
}  # fmt: skip


def test_a_sound_history_breaks_nothing(checker, sound):
    assert checker(sound) == set()


@pytest.mark.parametrize(("invariant", "doctor"), [(i, d) for i, doctors in DOCTORED.items() for d in doctors])
def test_a_doctored_one_is_found(checker, copied, invariant, doctor):
    doctor(copied)
    assert invariant in checker(copied)


def test_a_schedule_is_its_seeds_alone_and_json(checker):
    one = checker.draw(5, 8.0, 40)
    assert one == checker.draw(5, 8.0, 40) == json.loads(json.dumps(one)) and one != checker.draw(6, 8.0, 40)
    assert {deed["do"] for deed in one} >= {"kill", "stop", "wire", "full", "clock", "suspend"}


def test_a_failing_schedule_shrinks_to_what_it_takes(checker, monkeypatch):
    needed, played = {2, 5}, []

    def one(folder, skew, deeds, words):
        played.append(deeds)
        broken = needed <= {deed["at"] for deed in deeds}
        return ([checker.nemesis.Violation("I5", 0, "")] if broken else []), None

    monkeypatch.setattr(checker.nemesis, "one", one)
    deeds = [{"at": n, "do": "kill", "name": "policy"} for n in range(7)]
    assert checker.nemesis.shrunk(Path(), None, deeds, "I5") == ([deeds[2], deeds[5]], len(played))
    needed = {99}  # it does not happen again
    assert checker.nemesis.shrunk(Path(), None, deeds, "I5") == (deeds, 1)


def test_a_deed_may_fall_upon_every_process_but_those_that_end_the_run(checker):
    """By the names under which the manager starts them."""
    names, plain = checker.schedule.names, config.load(ROOT / "launch" / "walk.toml")
    told = config.to_dict(plain)
    started = {spec.name for spec in (*roster.nodes_of(plain.robot), roster.OPERATOR)}
    assert set(names(told)) == started and checker.schedule.ENDING == ("manager", "twin")
    told["network"]["listen"], told["takeover"]["device"], told["task"]["reward"] = "tcp://127.0.0.1:1", "so101", "classifier"
    told["robot"]["cameras"] = {"left": {}, "right": {}}
    assert set(names(told)) - started == {"gateway", "teleop", "classifier", "camera1", "camera2"}
    drawn = {deed.get("name", "") for seed in range(60) for deed in checker.draw(seed, 8.0, 6, checker.schedule.Target.of(told))}
    assert drawn - {""} == set(names(told))


def test_a_process_is_known_by_its_command_line(checker):
    words = [b"python", b"-m", b"", b"runs/one", b"camera2", b""]
    modules = (b"robotrl.nodes.recorder", b"robotrl.sim.operator", b"bench.rewarding", b"robotrl.nodes.camera", b"cc")
    found = [checker.called([*words[:2], module, *words[3:]], False) for module in modules]
    assert found == ["recorder", "operator", "operator", "camera2", ""]
    assert checker.called(words, True) == "manager" and checker.called([b"python", b"overheard.py", b"twin"], False) == "twin"


PLAYED = """
import os, signal, sys, time
sys.path.insert(0, {bench!r})
import lanes

class Played:
    "A campaign in the place of the real one: every third seed ends its run."

    def __init__(self, folder, skew, how):
        self.how, self.open, self.figures, self.causes = how, [], dict(runs=1, steps=10), ["disk_full"]
        self.playing = False

    def ended(self, seed):
        if seed == abs(self.how.deeds):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(60 if self.how.deeds > 0 else 0.3)

    def play(self, seed):
        self.playing = True
        if self.how.deeds > 0:
            self.ended(seed)
        self.last = dict(seed=seed)
        self.open.append(self.last)
        self.playing = False
        return seed % 3 == 0

    def finish(self):
        if self.how.seconds:
            raise SystemExit(5)
        done, self.open = self.open, []
        if done and self.how.deeds < 0:
            self.ended(done[-1]["seed"])
        return done

lanes.Campaign = Played
sys.exit(lanes.main(sys.argv[1:]))
"""


@pytest.fixture
def play(checker, monkeypatch, tmp_path):
    """Two lanes on campaigns that play nothing."""
    (tmp_path / "played.py").write_text(PLAYED.format(bench=BENCH))
    monkeypatch.setattr(checker.lanes.Lanes, "program", tmp_path / "played.py")

    def play(seed, schedules, seconds=0.0, ended_at=0):
        found = checker.lanes.Lanes(tmp_path, None, checker.lanes.How(seconds, ended_at, 0.0), 2)
        return found, list(found.play(seed, schedules))

    return play


def test_lanes_share_the_seeds_and_make_one_result(play):
    lanes, heard = play(10, 9)
    assert [row["seed"] for row in lanes.rows] == list(range(10, 19)) == sorted(row["seed"] for row in heard if row)
    assert heard.count(None) == lanes.figures["runs"] == lanes.causes["disk_full"] == 4  # 12, 15, 18, and what lane 1 had left
    assert lanes.played == 9 and lanes.lost == 0 and lanes.left_s(9) == 0.0 < lanes.left_s(10)


def test_a_campaign_that_is_ended_keeps_what_it_has_played(play):
    """Also where a lane and its parent are told to end at once."""
    lanes, _ = play(10, 1000, ended_at=14)
    seeds = {row["seed"] for row in lanes.rows}
    assert {10, 12} <= seeds and 14 not in seeds
    assert lanes.lost == 0 and lanes.played == len(lanes.rows) < 1000


def test_a_campaign_that_is_ended_while_it_judges_keeps_what_it_judges(play):
    lanes, _ = play(10, 1000, ended_at=-12)
    seeds = {row["seed"] for row in lanes.rows}
    assert {10, 12} <= seeds and 14 not in seeds
    assert lanes.lost == 0 and lanes.played == len(lanes.rows) < 1000


def test_a_lane_that_fails_is_told_of(play):
    lanes, heard = play(1, 2, seconds=1.0)
    assert len(heard) == lanes.lost == 2 and lanes.rows == []


def test_twenty_schedules_break_nothing(tmp_path):
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "robotrl", "bench", "nemesis", "--schedules", "20", "--seconds", "1.0", "--deeds", "3",
         "--wait", "0.3", "--no-shrink", "--keep", str(tmp_path / "keep"), "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert (
        result["schedules"] == 20
        and min(result["kept"].values()) > 0
        and result["violations"] == {}
        and sum(result["deeds"].values()) == 60
    )
    assert result["began_walking"] > 0, "no schedule found the robot walking: nothing that moves was disturbed"


def test_a_gate_that_opens_again_where_the_joint_is_leads_nobody(checker):
    """After 100 ms without a permit, or 60 in which the driver looked for none; after 40, or elsewhere, it would be a motion."""
    sunk = Tale(late=range(26, 30)).records
    assert checker(sunk) == checker(Tale(late=range(28, 30)).records) == set()
    assert "I5" in checker(Tale(late=range(29, 30)).records)
    first = next(r for r in sunk if r["k"] == "in" and r["t"] > 30 * 20 * 1_000_000 and goal(1, 2.08) in r["v"])
    first["v"] = first["v"].replace(goal(1, 2.08), goal(1, 2.10))
    assert "I5" in checker(sunk)


@pytest.mark.parametrize(("step", "leads"), [(-0.01, False), (-0.02, True), (0.01, True)])
@pytest.mark.parametrize(("out", "other"), [(3.85, 1.0), (3.5, 3.5)])
def test_who_came_on_outside_may_be_brought_in_slowly_where_nobody_drives(checker, copied, step, leads, out, other):
    """Servo 1, out of its range, or of a leg that is stretched too far: in HOLD its goals go in by 0.5 rad/s and no faster."""
    held = [r for r in copied if r["k"] == "in" and "01000a0d20" in r["v"]][:20]
    for k, r in enumerate(held):
        r["v"] = goal(1, out + k * step) + goal(2, other)
    for x in copied:
        if x["k"] == "out" and x["wire"] == "servos" and held[0]["t"] - 3 * MS <= x["t"] <= held[-1]["t"]:
            x["v"] = "".join(reply(i, 0, a, 10) for i, a in zip(IDS, (out, other), strict=True))
    found = checker(copied, until=held[-1]["t"]) & {"I1", "I2", "I5"}  # what the bus says was not told anew
    assert found == (({"I2", "I5"} if step > 0 else {"I5"}) if leads else set())


def test_a_garbled_pose_is_no_pose_and_ends_no_judgement(checker, sound):
    garbled = "pose 7 30000 0.\x121882 0.0 0.1 0.0 0.0 0.0 *AB\n"
    assert checker([*sound, {"t": 1_000 * MS, "k": "out", "wire": "tracker", "v": garbled}]) == set()


@pytest.mark.skipif(not shutil.which("cc"), reason="the clock that a suspension shows on is set by a library compiled here")
def test_a_machine_that_was_suspended_in_motion_leads_nobody_before_a_key(checker, tmp_path):
    run = checker.watched.Run(tmp_path / "run", checker.nemesis.skewed(tmp_path))
    try:
        assert run.walks(120), "the operator's script presses what it takes"
        run.play([{"at": 0.0, "do": "suspend", "s": 3600.0}])
        until = time.monotonic() + 10
        while run.looker.state == "RUN" and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        found = checker.nemesis.check(run.end())
    assert [v for v in found if v.invariant == "I1"] == []
    anew = [r["m"] for r in of(run.records(), "guard") if "guard_restart" in r["m"]["causes"]]
    assert anew and anew[0]["state"] in ("PSTOP", "RELAX"), anew[:1]
