"""The nemesis's checker on an arm: each of twelve invariants, broken in an else sound history told by hand, is found."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from robotrl import config
from robotrl.sim.servotwin import ServoTwin
from tests.bench import test_nemesis as minitaur
from tests.bench.armtale import FAMILIES, IDS, STOW, ArmTale, family, whole
from tests.bench.tale import MS, of
from tests.bench.unkept import UNKEPT


@pytest.fixture(scope="module", params=list(FAMILIES))
def sound(request):
    return ArmTale(request.param).records


def said(r, kind="in"):
    """Records of the servos' wire."""
    return [x for x in r if x["k"] == kind and x["wire"] == "servos"]


def with_goals(r):
    head = family(r).goals([0.0, 0.0])[: 12 if family(r) is FAMILIES["dynamixel"] else 7]
    return [x for x in said(r) if head in x["v"]]


def at_state(r, state):
    """When the guard said so first."""
    return min(x["m"]["t"] for x in of(r, "guard") if x["m"]["state"] == state)


def last_of_the_run(r):
    return [x for x in with_goals(r) if x["t"] < at_state(r, "PSTOP")][-1]


def lowering(r):
    """Its writes while it is lowered."""
    return [x for x in with_goals(r) if x["t"] > at_state(r, "RELAX") + 320 * MS]


def deed(r, ms, do, name, **more):
    r.append({"t": ms * MS, "k": "deed", "deed": {"at": 0, "do": do, "name": name, **more}, "whom": {}})


def torque_without_a_permit(r):
    r.append({"t": 3_900 * MS, "k": "in", "wire": "servos", "v": family(r).torque(1)})


def goal_of_a_limp_arm(r):
    r.append({"t": 3_900 * MS, "k": "in", "wire": "servos", "v": family(r).goals(STOW)})


def led_while_it_is_stopped(r):
    lowering(r)[-20]["v"] = family(r).goals([0.4, 0.0])


def lowered_too_fast(r):
    lowering(r)[2]["v"] = family(r).goals(STOW)


def goes_on_after_a_suspension(r):
    r.append({"t": at_state(r, "RUN") + 100 * MS, "k": "deed", "deed": {"at": 0, "do": "suspend", "s": 3600.0}, "whom": {}})


def never_let_go(r):
    """Its stop was to take nothing."""
    r[0]["config"]["robot"]["stop_damp_s"] = -1.5


def goal_out_of_range(r):
    last_of_the_run(r)["v"] = family(r).goals([1.6, 0.0])


def goal_that_leaps(r):
    last_of_the_run(r)["v"] = family(r).goals([1.3, 0.0])


def goal_beyond_the_lead(r):
    until = last_of_the_run(r)
    for x in said(r, "out"):  # the joints stay behind
        if until["t"] - 130 * MS < x["t"] <= until["t"]:
            length = len(x["v"]) // len(IDS) - (6 if family(r) is FAMILIES["feetech"] else 11)
            x["v"] = "".join(family(r).answer(i, length, a, 1) for i, a in zip(IDS, (-0.2, 0.0), strict=True))
    until["v"] = family(r).goals([0.4, 0.2])


def goal_that_may_be_reached_at_any_speed(r):
    """A Feetech's, which carries its speed."""
    last_of_the_run(r)["v"] = FAMILIES["feetech"].goals([0.3, 0.2], speed=0)


def led_on_unheard(r):
    """The first joint, while it is lowered: it has said nothing for 300 ms."""
    since = at_state(r, "RELAX") + 300 * MS
    for x in said(r, "out"):
        if since < x["t"] < since + 300 * MS:
            x["v"] = x["v"][len(x["v"]) // 2 :]


def two_drivers(r):
    r.append({"t": 1_500 * MS, "k": "born", "name": "servos", "pid": 999, "at": 1_500 * MS})


def a_stranger_reboots(r):
    r.append({"t": 1_505 * MS, "k": "in", "wire": "servos", "v": family(r).reboots(1)})


def a_stranger_writes_to_flash(r):
    r.append({"t": 1_505 * MS, "k": "in", "wire": "servos", "v": family(r).renames(1, 2)})


def a_packet_that_nobody_died_in(r):
    r.append({"t": 1_505 * MS, "k": "in", "wire": "servos", "v": family(r).goals([0.5, 0.0])[:9]})


def noise(r):
    r.append({"t": 1_505 * MS, "k": "in", "wire": "servos", "v": "hello"})


def a_second_hand_asks(r):
    r.append({"t": 1_505 * MS, "k": "in", "wire": "servos", "v": family(r).question(family(r).lengths[2])})
    r.append({"t": 1_506 * MS, "k": "in", "wire": "servos", "v": family(r).question(family(r).lengths[1])})


def moves_after_the_stop(r):
    stopped = [x for x in with_goals(r) if x["t"] < at_state(r, "RELAX")][-3]
    stopped["v"] = family(r).goals([0.6, 0.0])


def policy_moves_on(r):
    deed(r, 1_400, "kill", "policy")


def let_go_while_it_is_up(r):
    t = at_state(r, "RELAX") + 100 * MS
    next(x for x in said(r) if x["t"] > t and x in with_goals(r))["v"] = family(r).torque(0)


def all_are_told_while_it_is_up(r):
    t = at_state(r, "RELAX") + 350 * MS
    next(x for x in said(r) if x["t"] > t and x in with_goals(r))["v"] = family(r).all_off()


def lowered_without_a_rest(r):
    """In RUN it moves to the end, and its stop begins at once."""
    for topic in ("guard", "permit"):
        for x in of(r, topic):
            if x["m"]["state"] == "PSTOP":
                x["m"]["state"], x["m"]["torque"] = "RELAX", False
    began = [x for x in with_goals(r) if x["t"] > at_state(r, "RELAX")]
    for k, x in enumerate(began):
        x["v"] = family(r).goals([0.5 - 0.03 * k, 0.0])


def nobody_holds_it(r):
    t = 1_400 * MS
    r[:] = [x for x in r if not (x["k"] in ("in", "out") and x["wire"] == "servos" and t < x["t"] < t + 300 * MS)]
    for x in r:
        if x["k"] == "born" and x["name"] == "rescue":
            x["at"] = -10_000 * MS
    deed(r, 1_400, "kill", "servos")


def ended_well_with_torque(r):
    r.append({"t": 3_997 * MS, "k": "modes", "wire": "servos", "v": [0, 1]})


DOCTORED = {
    "I1": (torque_without_a_permit, goal_of_a_limp_arm, led_while_it_is_stopped, lowered_too_fast, goes_on_after_a_suspension,
           never_let_go),
    "I2": (goal_out_of_range, goal_that_leaps, goal_beyond_the_lead, led_on_unheard),
    "I3": minitaur.DOCTORED["I3"],
    "I4": (two_drivers, a_stranger_reboots, a_stranger_writes_to_flash, a_packet_that_nobody_died_in, noise, a_second_hand_asks,
           minitaur.port_open_elsewhere),
    "I5": (moves_after_the_stop, policy_moves_on, let_go_while_it_is_up, all_are_told_while_it_is_up, lowered_without_a_rest,
           nobody_holds_it),
    "I6": minitaur.DOCTORED["I6"],
    **UNKEPT,
    "I9": (minitaur.reading_of_before,),
    "I10": minitaur.DOCTORED["I10"],
    "I11": minitaur.DOCTORED["I11"],
    "I12": (minitaur.said_to_be_off, ended_well_with_torque),
}  # fmt: skip


def test_a_sound_history_of_an_arm_breaks_nothing(checker, sound):
    assert checker(sound) == set()


@pytest.mark.parametrize(("invariant", "doctor"), [(i, d) for i, doctors in DOCTORED.items() for d in doctors])
def test_a_doctored_one_is_found(checker, copied, invariant, doctor):
    doctor(copied)
    assert invariant in checker(copied)


@pytest.mark.parametrize("spoke", [False, True])
def test_a_driver_that_dies_before_it_has_said_a_word_had_no_hand_in_a_stop(checker, copied, spoke):
    """The rescue of its last life lowers the arm, and it waits for that; who had the port and died leaves it to be held first."""
    dies = at_state(copied, "RELAX") + 500 * MS
    word = next(x["t"] for x in reversed(copied) if x["k"] == "bus" and x["topic"] == "drive" and x["t"] <= dies)
    for k, t in (("born", word - MS if spoke else word + MS), ("died", word + 2 * MS)):
        copied.append({"t": t, "k": k, "name": "servos", "pid": 999, "at": t})
    assert (checker(copied) - {"I4"} == {"I1", "I5"}) is spoke and ("I5" in checker(copied)) is spoke


@pytest.mark.parametrize(
    ("last", "goal", "so"),
    [
        (1.40, 1.39, True),
        (1.40, 1.388, False),
        (1.40, 1.41, False),
        (1.35, 1.34, False),
        (-1.40, -1.39, True),
        (1.3601, 1.351, True),
    ],
)
def test_a_joint_that_hangs_out_of_its_range_is_led_in_slowly_and_that_is_no_leading(script, last, goal, so):
    """Its watchdog had stopped it; whoever holds it then rests it inside."""
    robot = SimpleNamespace(ids=[11, 12], low=[-2.0, -1.36], high=[2.0, 1.36], period_s=0.02, stow=())
    history = SimpleNamespace(robot=robot)
    at = lambda angle: SimpleNamespace(servo=12, angle=angle)  # noqa: E731
    assert script("opening").comes_in(history, at(last), at(goal)) is so


def test_a_goal_that_carries_no_speed_is_found(checker):
    records = ArmTale("feetech").records
    goal_that_may_be_reached_at_any_speed(records)
    assert checker(records) == {"I2"}


def test_a_packet_may_be_torn_by_a_death(checker, copied):
    a_packet_that_nobody_died_in(copied)
    copied.append({"t": 1_504 * MS, "k": "died", "name": "servos", "pid": 104})
    assert "I4" not in checker(copied)


def test_a_stop_begins_where_joints_hang_only_where_not_all_go_by_their_goals(checker, sound):
    protocol = sound[0]["config"]["robot"]["servos"]["protocol"]
    assert checker(ArmTale(protocol, hangs=0.1, limp=True).records) == set()
    assert "I5" in checker(ArmTale(protocol, hangs=0.1).records)


@pytest.mark.parametrize(("run", "robot"), [("reach", "so101"), ("reach_omx", "omx")])
def test_deeds_upon_an_arm_are_such_as_its_twin_knows(checker, run, robot):
    told = config.to_dict(config.load(minitaur.ROOT / "launch" / f"{run}.toml"))
    target, twin = checker.schedule.Target.of(told), ServoTwin(robot)
    deeds = [deed for seed in range(300) for deed in checker.draw(seed, 8.0, 6, target)]
    assert {deed["name"] for deed in deeds if "name" in deed} == {*checker.schedule.NAMES} - {"imu", "tracker"}
    lines = [deed["line"] for deed in deeds if deed["do"] == "wire"]
    assert {line["fault"] for line in lines} == set(checker.schedule.ON_A_BUS)
    assert {line["servo"] for line in lines if "servo" in line} == set(told["robot"]["servos"]["ids"])
    assert all(("heals_s" in deed) == (deed["line"]["fault"] == "trip") for deed in deeds if deed["do"] == "wire")
    for line in lines:
        twin.command(line)


def test_an_arm_that_does_not_come_down_is_let_go_when_its_time_is_over(checker, copied):
    """It stops half-way: something is in its way."""
    for x in said(copied, "at"):
        if x["t"] > at_state(copied, "RELAX") + 600 * MS:
            x["v"] = [whole(0.3), 0.1]
    assert checker(copied) == set()
    let_go_while_it_is_up(copied)
    assert checker(copied) == {"I5"}
