"""The fault matrix in part (the whole: python -m tests.safety.matrix), its controls, and that no row is forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.safety import camerascene
from tests.safety.catalogue import BOUND_MS, LONGER
from tests.safety.elsewhere import ELSEWHERE, NOT_HERE, NOT_ON_A_LINE
from tests.safety.floorscene import FLOOR, FLOOR_ROWS
from tests.safety.linerows import LINES
from tests.safety.matrix import PLAYED, cases, controls, stopped
from tests.safety.rows import ROWS
from tests.safety.scene import STATES
from tests.safety.witness import Bounds, Witness

ROOT = Path(__file__).resolve().parents[2]
STRIDE = 7  # of the rows each test run plays every seventh in each state, beginning with another one in each


def test_every_row_of_the_catalogue_is_played_or_tested_elsewhere_or_not_of_this_robot():
    assert {row.number for row in ROWS} | set(ELSEWHERE) | set(NOT_HERE) == set(range(1, 65))
    assert not set(NOT_HERE) & ({row.number for row in ROWS} | set(ELSEWHERE))
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_row_is_played_within_the_catalogues_time_or_says_why_not():
    """The reason is of the longest time that any robot has for the row; it goes with what needed it."""
    longest: dict[tuple[int, str], int] = {}
    for row in (*(row for rows in PLAYED.values() for row in rows), *camerascene.ROWS):
        bound = BOUND_MS[row.number]
        if bound is not None and row.ms > bound:
            longest[row.number, row.name] = max(row.ms, longest.get((row.number, row.name), 0))
    assert longest == {key: ms for key, (ms, _) in LONGER.items()}
    assert set(BOUND_MS) == set(range(1, 65)) and all(why for _, why in LONGER.values())


def test_the_tests_named_for_a_row_are_there():
    for why in ELSEWHERE.values():
        path, name = re.search(r"(tests/\S+\.py)::(\w+)", why).groups()
        assert f"def {name}(" in (ROOT / path).read_text(), why


@pytest.mark.parametrize("state", STATES)
def test_faults_in_a_state(state):
    rows = [row for row in ROWS if state in row.states][STATES.index(state) :: STRIDE]
    wrong = [(row.name, said) for row, _, said in cases(rows, [state], 0) if said]
    assert len(rows) > 5 and not wrong


def test_with_its_detector_removed_a_row_turns_red():
    rows = ROWS[3::STRIDE]
    assert [row.name for row, _, said in controls(rows, 0) if not said] == []


PART = 17  # as STRIDE, of a robot on bus servos, which is slower


@pytest.mark.parametrize("robot", ["omx", "so101"])
def test_a_line_plays_every_row_that_a_minitaur_plays_or_says_why_not(robot):
    numbers, names = [row.number for row in LINES[robot]], [row.name for row in LINES[robot]]
    assert set(numbers) | set(ELSEWHERE) | (set(NOT_HERE) - {5, 13, 54, 60}) | set(NOT_ON_A_LINE) == set(range(1, 65))
    assert {5, 13, 54, 60} <= set(numbers) and not set(NOT_ON_A_LINE) & set(numbers)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("robot", "state"), [("omx", "RUN"), ("so101", "HOLD"), ("dkitty", "RUN")])
def test_faults_on_a_line(robot, state):
    rows = [row for row in LINES[robot] if state in row.states and row.ms < 4000][1::PART]
    wrong = [(row.name, said) for row, _, said in cases(rows, [state], 0, robot) if said]
    assert len(rows) > 2 and not wrong


def test_faults_of_the_senses_beside_a_line():
    wrong = [(row.name, said) for row, _, said in cases(FLOOR_ROWS[::4], ["RUN"], 0, FLOOR) if said]
    assert len(FLOOR_ROWS) == 14 and not wrong
    assert [row.name for row, _, said in controls(FLOOR_ROWS[2:3], 0, FLOOR) if not said] == []


@pytest.mark.parametrize("robot", ["omx", "so101"])
def test_with_its_detector_removed_a_row_on_a_line_turns_red(robot):
    rows = [row for row in LINES[robot] if row.disarm is not None and "RUN" in row.states][:: PART // 2]
    assert [row.name for row, _, said in controls(rows, 0, robot) if not said] == [] and len(rows) > 1


BOUNDS = Bounds((1, 1), (0.0, 0.0), 0.4, 3.6, 0.5, 1.0, 0.1, 5.0, 0.1)
T = 20_000_000


def goals(*angles: float, torque: str = "0000a040", watchdog: str = "cdcccc3d") -> bytes:
    import struct

    turns = [struct.pack("<f", angle / 6.283185307179586).hex() for angle in angles]
    return "".join(
        f"can send {i:04x} 01000a0d20{turn}02237f7f0d25{torque}0e27{watchdog}00001841\n" for i, turn in enumerate(turns, 1)
    ).encode()


def seen(*angles: float, host: int = 0x40) -> bytes:
    import struct

    turns = [struct.pack("<f", angle / 6.283185307179586).hex() for angle in angles]
    return "".join(
        f"rcv {i:x}{host:02x} 21000a2f01{turn}{'00' * 8}210a19230d201900\r\n" for i, turn in enumerate(turns, 1)
    ).encode()


ASK = b"can send c001 11001f01110a130d\ncan send c002 11001f01110a130d\n"


def witness_of(*periods: tuple[bytes, bytes], state: str = "RUN", torque: bool = True) -> list[str]:
    """Two servos: what they said and what was then written, period by period."""
    witness = Witness(BOUNDS)
    for k, (said, written) in enumerate(periods, 1):
        witness.permit((k - 1) * T, state, torque, 1.0)
        witness.wrote(k * T, ASK)
        witness.heard(said)
        witness.wrote(k * T, written)
        witness.moment(k * T, state, ())
    return witness.violations


def test_the_witness_has_nothing_against_a_robot_that_keeps_the_rules():
    at = seen(2.0, 2.0)
    assert witness_of((at, goals(2.0, 2.0)), (at, goals(2.4, 2.0)), (at, goals(2.8, 1.6))) == []


@pytest.mark.parametrize("spoil", [
    lambda said: said.replace(b"2f01", b"2F01"),  # a flipped bit that leaves the number
    lambda said: said.replace(b"\r\nrcv 2", b"\x0d\x4arcv 2"),  # one that takes the end of a line
])  # fmt: skip
def test_the_witness_hears_what_damage_has_left_whole(spoil):
    at = seen(2.0, 2.0)
    assert witness_of((at, goals(2.0, 2.0)), *[(spoil(at), goals(2.0, 2.0))] * 4, (spoil(at), goals(2.0, 2.1))) == []


@pytest.mark.parametrize("state", ["HOLD", "STOPPING", "PSTOP"])
def test_the_witness_has_nothing_against_who_is_brought_in_slowly_or_was_pushed_and_sees_a_quick_step(state):
    out = seen(-1.2, 2.0)
    assert witness_of((out, goals(-1.19, 2.0)), (out, goals(-1.18, 2.0)), state=state) == []
    assert "jumps" in witness_of((out, goals(-1.19, 2.0)), (out, goals(-1.179, 2.0)), state=state)[0]
    assert "jumps" in witness_of((out, goals(-1.185, 2.0)), state=state)[0]
    assert witness_of((seen(2.0, 2.0), goals(2.0, 2.0)), (seen(0.4, 2.0), goals(1.9, 2.0)), state=state) == []


@pytest.mark.parametrize(
    ("periods", "says"),
    [
        ([(seen(2.0, 2.0), goals(2.1, 2.0))], "jumps"),  # the first target is at the joint
        ([(seen(2.0, 2.0), goals(2.0, 2.0)), (seen(2.0, 2.0), goals(2.6, 2.0))], "jumps"),
        ([(seen(3.6, 2.0), goals(3.6, 2.0)), (seen(3.6, 2.0), goals(3.7, 2.0))], "leaves its range"),
        ([(seen(2.0, 2.0), goals(2.0, 2.0))] + [(seen(2.0, 2.0), goals(2.0 + k / 2.1, 2.0)) for k in (1, 2, 3)], "led to"),
        ([(seen(2.0, 2.0), goals(float("nan"), 2.0))], "nan"),
        ([(seen(3.1, 3.08), goals(3.1, 3.08)), (seen(3.1, 3.08), goals(3.2, 3.2))], "leg closes"),
        ([(seen(2.0, 2.0), goals(2.0))], "goals for"),
        ([(seen(2.0, 2.0), goals(2.0, 2.0, torque="0000c040"))], "torque limit"),
        ([(seen(2.0, 2.0), goals(2.0, 2.0, watchdog="0000c07f"))], "watchdog"),
        ([(seen(2.0, 2.0, host=0x41), goals(2.0, 2.0))], "nobody knows where"),
        ([(seen(2.0, 2.0), b"can send 0001 01000c\n")], "nobody knows this line"),
    ],
)
def test_the_witness_sees_each_violation(periods, says):
    assert any(says in violation for violation in witness_of(*periods)), witness_of(*periods)


@pytest.mark.parametrize(("state", "torque"), [("READY", True), ("HOLD", False), ("RELAX", True)])
def test_the_witness_sees_a_goal_without_a_permit(state, torque):
    assert "without a permit" in witness_of((seen(2.0, 2.0), goals(2.0, 2.0)), state=state, torque=torque)[0]


def test_a_stop_is_never_left_for_less():
    assert stopped("RUN", "HOLD") == ("HOLD",) and stopped("clearing", "HOLD") == ("PSTOP",)
    assert stopped("RUN", "RELAX") == ("RELAX",) and "RUN" not in stopped("READY", "PSTOP")
