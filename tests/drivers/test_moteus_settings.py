"""Settings of a moteus against a console that answers from a list: what holds, what is said, and how often it is asked."""

from __future__ import annotations

import math

import pytest

from robotrl import config
from robotrl.drivers import moteus_settings
from robotrl.drivers.moteus_settings import Setting, bring, complaints, same

KP, HOT, NO_RANGE = Setting("kp", 50.0), Setting("hot", 70.0, most=True), Setting("slip", math.nan)


class Console:
    """Writes down what it is asked; its answers are the words of a text, "-" is none."""

    def __init__(self, answers: str) -> None:
        self.answers, self.asked = [answer.replace("-", "") for answer in answers.split()], []

    def ask(self, command: str) -> str:
        self.asked.append(command)
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("got", "want", "is_same"),
    [
        (8.0, 8.0, True), (math.nan, math.nan, False), (math.nan, 8.0, False), (8.0, math.nan, False),
        (1.000095, 1.0, True), (1.0, 1.000095, True), (1.000105, 1.0, False), (1.0, 1.000105, False), (-1.0, 1.0, False),
        (0.0, 0.95e-5, True), (0.95e-5, 0.0, True), (1.05e-5, 0.0, False), (math.inf, math.inf, True), (math.inf, 1e300, False),
    ],
)  # fmt: skip
def test_a_value_that_went_through_six_digits_is_still_the_same(got, want, is_same):
    assert same(got, want) is is_same


@pytest.mark.parametrize(
    ("setting", "text", "holds"),
    [
        (KP, "50.000000", True), (KP, "50.004", True), (KP, "49", False), (KP, "51", False),
        (KP, "", False), (KP, "nan", False), (KP, "inf", False), (KP, "ERR error reading", False),
        (HOT, "70.000000", True), (HOT, "69.9", True), (HOT, "0.5", True), (HOT, "0.000001", True), (HOT, "70.1", False),
        (HOT, "0", False), (HOT, "-0.5", False), (HOT, "-70", False), (HOT, "nan", False), (HOT, "inf", False), (HOT, "", False),
        (NO_RANGE, "nan", True), (NO_RANGE, "0.0", False), (NO_RANGE, "inf", False), (NO_RANGE, "", False),
    ],
)  # fmt: skip
def test_what_holds(setting, text, holds):
    """Of a limit anything above 0 and below it: a servo that is limited to nothing, or less, would not move."""
    assert setting.holds(text) is holds


def test_settings_in_words():
    assert [str(s) for s in (KP, HOT, NO_RANGE, Setting("v", 26.7380304))] == ["50", "70 at most", "nan", "26.738"]


def test_a_robots_settings_in_the_servos_units():
    limits = config.Protection(temp_c=70.0, volts_max=24.0, amps=60.0, speed_rad_s=168.0)
    servos = config.Servos(kp=8.0, kd=0.3, watchdog_s=0.1, protection=limits)
    most = [("servo.fault_temperature", 70.0), ("servo.max_voltage", 24.0), ("servo.max_current_A", 60.0)]
    most.append(("servo.max_velocity", 168.0 / (2 * math.pi)))
    wanted = [
        ("servo.pid_position.kp", 8.0 * 2 * math.pi, False), ("servo.pid_position.ki", 0.0, False),
        ("servo.pid_position.kd", 0.3 * 2 * math.pi, False), ("servo.default_timeout_s", 0.1, False),
        ("servo.timeout_mode", 12.0, False), ("servo.enable_motor_temperature", 1.0, False), *[(*limit, True) for limit in most],
    ]  # fmt: skip
    *rest, low, high, slip = moteus_settings.of(servos)
    assert rest == wanted
    assert (low.name, high.name, slip.name) == ("servopos.position_min", "servopos.position_max", "servo.max_position_slip")
    assert all(math.isnan(none.value) and not none.most for none in (low, high, slip))
    assert len(moteus_settings.of(config.Servos())) == 6 + 3, "no limit that the robot file does not name"
    bare = moteus_settings.of(config.Servos(thermistors=False))
    assert len(bare) == 5 + 3 and not any("temperature" in setting.name for setting in bare), "nothing of what is not there"


def test_what_is_as_wanted_is_asked_once_and_not_set():
    console = Console("50.0 65.0 nan")
    assert bring(console, (KP, HOT, NO_RANGE)) == "" and console.asked == ["conf get kp", "conf get hot", "conf get slip"]
    console = Console("50.0 65.0 nan")
    assert complaints(console, (KP, HOT, NO_RANGE)) == [] and len(console.asked) == 3


def test_what_differs_is_set_and_read_back():
    console = Console("4.0 OK 50.0 71.0 OK 70.0 0.5 OK nan")
    assert bring(console, (KP, HOT, NO_RANGE)) == ""
    assert console.asked == [
        "conf get kp", "conf set kp 50", "conf get kp", "conf get hot", "conf set hot 70", "conf get hot",
        "conf get slip", "conf set slip nan", "conf get slip",
    ]  # fmt: skip
    console = Console("4.0 OK 50.265482")
    assert bring(console, (Setting("kp", 16 * math.pi),)) == "" and console.asked[1] == "conf set kp 50.265482"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("- - - - - - -", "does not answer; check its id, cable and power"),
        ("4.0 - - - -", "does not answer; check its id, cable and power"),  # no longer
        ("4.0 - 4.0", "kp reads 4.0 after setting 50 (answer ''); check cable and firmware"),
        ("4.0 OK - - -", "kp reads nothing after setting 50 (answer 'OK'); check cable and firmware"),
        ("4.0 OK 4.0", "kp reads 4.0 after setting 50 (answer 'OK'); check cable and firmware"),
        ("4.0 ERR - ERR -", "kp reads ERR after setting 50 (answer 'ERR'); check cable and firmware"),
    ],
)
def test_the_first_that_cannot_be_set_ends_it(answers, said):
    console = Console(answers)
    assert bring(console, (KP, HOT)) == said and not console.answers


@pytest.mark.parametrize("before", ["", "- ", "- - ", "ERR - ", "- ERR "])
def test_a_value_is_asked_for_until_a_number_comes(before):
    console = Console(before + "50.0")
    assert complaints(console, (KP,)) == [] and not console.answers


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("- - -", "kp is not answered; check cable and firmware"),
        ("ERR - -", "kp is ERR, not 50; configure it again"),
        ("- ERR inf", "kp is inf, not 50; configure it again"),
        ("49.0", "kp is 49.0, not 50; configure it again"),
    ],
)
def test_three_times_at_most_and_what_it_last_said_counts(answers, said):
    console = Console(answers + " 71.0")
    assert complaints(console, (KP, HOT)) == [said, "hot is 71.0, not 70 at most; configure it again"]
    assert console.asked == ["conf get kp"] * len(answers.split()) + ["conf get hot"]
