"""What is one task's alone, a dataclass each, and what each asks of the run around it. `config.Task` holds them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robotrl.configfile import Sources, require, within
from robotrl.serialarm import ARMS

if TYPE_CHECKING:
    from robotrl.config import Run, Task

MANY = 1_000_000_000  # a bound that nobody meets


@dataclass(frozen=True)
class Reach:
    """What is an arm's alone: its point goes to a goal and stays (robotrl/tasks/reach.py)."""

    goal_low: tuple[float, ...] = within((0.18, -0.12, 0.08), -2, 2)  # m, base frame: goals are drawn evenly from this box
    goal_high: tuple[float, ...] = within((0.28, 0.12, 0.24), -2, 2)  # every corner within reach of both arms; chosen
    tolerance_m: float = within(0.015, 0.001, 1)  # from the goal; chosen: an SO-101's gears give by 5 mm (hardware facts 3.1)
    hold_steps: int = within(10, 1, 1000)  # readings in a row within the tolerance end the episode: 0.2 s; chosen
    episode_steps: int = within(150, 1, MANY)  # truncation; a goal is at most a second's way from home; chosen
    step_rad: float = within(0.03, 0.001, 1)  # a joint's target moves by so much a step at most; slower than the gate; chosen
    range_rad: float = within(1.5, 0.1, 6.3)  # from home: joints' targets go no farther; no goal asks for more; chosen
    distance_weight: float = within(5.0, 0, 1000)  # a metre and step; chosen: a goal 0.2 m away costs 1 a step
    near_weight: float = within(1.0, 0, 1000)  # times tanh(distance / near_m): what the last centimetres are worth; chosen
    near_m: float = within(0.02, 0.001, 1)  # little more than the tolerance, or a point rests at its edge; chosen
    time_cost: float = within(0.05, 0, 1000)  # a step, wherever: as much as 1 cm; chosen
    jerk_weight: float = within(1.0, 0, 1000)  # times mean |second difference| of the last three targets, rad; chosen
    tilt_weight: float = within(0.0, 0, 1000)  # a radian of the hand's pitch beyond `tilt_free` of `tilt_rad`: in the room, where
    tilt_rad: float = within(0.5, -3.2, 3.2)  # nothing else asks anything of it, it drifts until a joint is at its end; 0.5
    tilt_free: float = within(0.7, 0, 3.2)  # was tried, not to the end


@dataclass(frozen=True)
class Pixels:
    """An arm sees its goal, and a thing to be moved, instead of being told where they are (docs/pixels.md)."""

    # Their names, at most four; empty: it is told. In the robot file [cameras.NAME], on the twin [twin.views.NAME]
    cameras: tuple[str, ...] = ()
    told: bool = False  # a classifier alone sees by them (docs/classifier.md): the policy is told, as without cameras
    size: int = within(64, 32, 128)  # height and width of each picture; DrQ's are 84
    age_s: float = within(0.2, 0.01, 10)  # on the wall clock: a frame exposed longer ago than this is not acted on; chosen
    channels: Literal[1, 3] = 1  # grey, or red, green and blue, which cost an update twice the time


@dataclass(frozen=True)
class Moves:
    """In what an arm's actions are: robotrl/tasks/manipulator.py."""

    space: Literal["joint", "cartesian"] = "joint"
    step_m: float = within(0.008, 0.0005, 0.1)  # Cartesian: the point's target moves by so much a step and axis at most; chosen
    turn_rad: float = within(0.04, 0.001, 1)  # Cartesian: and the hand pitches by so much; chosen


@dataclass(frozen=True)
class Legs:
    """How a task moves D'Kitty's twelve joints (robotrl/tasks/quadruped.py): targets within a range, left and right alike."""

    roll_range: float = within(0.25, 0.01, 1.6)  # rad about 0: half of what ROBEL allows, the same to both sides; chosen
    pitch_centre: float = within(0.7854, -1.6, 1.6)  # rad; ROBEL: 0 to pi/2
    pitch_range: float = within(0.7854, 0.01, 1.6)
    knee_centre: float = within(-0.775, -1.6, 1.6)  # rad; ROBEL: -2 to 0, of which the mechanics give -1.57
    knee_range: float = within(0.775, 0.01, 1.6)
    smoothing: float = within(0.5, 0.01, 1)  # of the way to an action that the targets move in a step; 1: all; chosen


@dataclass(frozen=True)
class WalkTo:
    """ROBEL's D'Kitty walk (Ahn et al. 2019; its code: robel/dkitty/walk.py, base_env.py): to a place, looking at it."""

    near: tuple[float, ...] = within((2.0, 0.0), -10, 10)  # m and rad: the place is drawn evenly between these two
    far: tuple[float, ...] = within((2.0, 0.0), -10, 10)  # ROBEL's Fixed; its Random: [1.0, -1.047] and [2.0, 1.047]
    episode_steps: int = within(480, 1, MANY)  # truncation: 16 s at 30 Hz; ROBEL: 160 at 10 Hz
    upright: float = within(0.9, -1, 0.999)  # cosine of the tilt below which it has fallen
    upright_weight: float = within(1.0, 0, 1000)
    fall_penalty: float = within(500.0, 0, 10_000)
    distance_weight: float = within(4.0, 0, 1000)  # a metre
    heading_weight: float = within(2.0, 0, 1000)  # 1 at cosine 1, 0 at `facing`
    small_bonus: float = within(5.0, 0, 1000)  # near, and again when facing it
    big_bonus: float = within(10.0, 0, 1000)  # both
    there_m: float = within(0.5, 0.01, 10)
    facing: float = within(0.9, -1, 0.999)  # cosine
    scale: float = within(0.1, 1e-6, 1000)  # all of it times this, for the agent's sake; ROBEL: 1; chosen


@dataclass(frozen=True)
class Stand:
    """ROBEL's D'Kitty stand (the same source: robel/dkitty/stand.py): up into `pose` from where the reset leaves it."""

    pose: tuple[float, ...] = within((0.0,) * 12, -1.6, 1.6)  # rad: straight legs
    episode_steps: int = within(240, 1, MANY)  # truncation: 8 s at 30 Hz; ROBEL: 80 at 10 Hz
    upright: float = within(0.0, -1, 0.999)
    upright_weight: float = within(2.0, 0, 1000)
    fall_penalty: float = within(100.0, 0, 10_000)
    pose_weight: float = within(4.0, 0, 1000)  # a radian of the joints' mean error
    centre_weight: float = within(2.0, 0, 1000)  # a metre from where it began
    small_bonus: float = within(5.0, 0, 1000)  # times uprightness, when the mean error is below `close_rad`
    big_bonus: float = within(10.0, 0, 1000)  # when it is below half of that, and uprightness above 0.9
    close_rad: float = within(0.5236, 0.001, 3)  # 30 degrees
    scale: float = within(0.1, 1e-6, 1000)  # as WalkTo's


@dataclass(frozen=True)
class Stack:
    """A brick onto a brick (robotrl/tasks/stack.py); what the twin's bricks are: sim/bricks.py."""

    place: tuple[float, ...] = within((0.19, 0.0, 0.06), -2, 2)  # m, base frame: the held brick's middle when it is stacked
    spread_m: float = within(0.02, 0, 1)  # the fixed brick stands up to so far from there along x and y; 0: always there; chosen
    over_m: float = within(0.002, 0.0001, 0.1)  # beside its place by no more: studs go in (hardware facts 3.2)
    seat_m: float = within(0.0015, 0.0001, 0.1)  # over or under it by no more: a third of a stud; chosen
    tilt_rad: float = within(0.09, 0.001, 1)  # 5 degrees; chosen
    hold_steps: int = within(5, 1, 1000)  # readings in a row; chosen
    episode_steps: int = within(200, 1, MANY)  # truncation: 4 s; chosen
    hover_m: float = within(0.03, 0, 1)  # over its place while it is aside; chosen
    steep: float = within(3.0, 0, 100)  # how much higher for each metre aside; chosen
    step_rad: float = within(0.03, 0.001, 1)  # a joint's target moves by so much a step at most; slower than the gate; chosen
    range_rad: float = within(1.5, 0.1, 6.3)  # from the start: joints' targets go no farther; chosen
    distance_weight: float = within(5.0, 0, 1000)  # a metre and step; as Reach's
    near_weight: float = within(1.0, 0, 1000)  # times tanh(distance / near_m)
    near_m: float = within(0.01, 0.001, 1)  # chosen: a stud's height is half of it
    tilt_weight: float = within(0.5, 0, 1000)  # a radian and step; chosen
    time_cost: float = within(0.05, 0, 1000)  # a step; as Reach's
    jerk_weight: float = within(1.0, 0, 1000)  # as Reach's


@dataclass(frozen=True)
class Push:
    """A thing on the table to a marked place (robotrl/tasks/push.py); what the twin's thing is: sim/puck.py."""

    thing_low: tuple[float, ...] = within((0.165, -0.3), -4, 4)  # m from the turntable's axis and rad to the left: where it
    thing_high: tuple[float, ...] = within((0.18, 0.3), -4, 4)  # stands at first, drawn evenly; chosen
    goal_low: tuple[float, ...] = within((0.205, -0.2), -4, 4)  # where it goes: m, and rad to the left of where it stood; chosen:
    goal_high: tuple[float, ...] = within((0.23, 0.2), -4, 4)  # a hand 5 cm wide, which this arm cannot turn, pushes ahead
    height_m: float = within(0.02, -1, 1)  # of the point while it pushes, base frame; chosen
    radius_m: float = within(0.03, 0.001, 1)  # from a thing between the fingers to the point; chosen: a tin of 25 mm
    tolerance_m: float = within(0.015, 0.001, 1)  # from its place; chosen
    hold_steps: int = within(10, 1, 1000)  # readings in a row: the tracker is late, and a thing slides on; chosen
    episode_steps: int = within(200, 1, MANY)  # truncation: 4 s; chosen
    stuck_steps: int = within(75, 1, MANY)  # truncation: readings in a row in which the thing came no nearer; chosen: one
    # that has gone too far stays there, and more than half of what was learned from had been such waiting
    step_rad: float = within(0.03, 0.001, 1)  # a joint's target moves by so much a step at most; slower than the gate; chosen
    range_rad: float = within(1.5, 0.1, 6.3)  # from the start: joints' targets go no farther; chosen
    distance_weight: float = within(5.0, 0, 1000)  # a metre and step; as Reach's
    near_weight: float = within(1.0, 0, 1000)  # times tanh(distance / near_m)
    near_m: float = within(0.02, 0.001, 1)  # as Reach's
    aside: float = within(2.0, 0, 100)  # a distance aside of the way outwards counts so many times; chosen
    behind_weight: float = within(0.3, 0, 1000)  # for a point that is 10 cm or more from behind the thing; chosen
    tilt_weight: float = within(0.2, 0, 1000)  # a radian and step; chosen
    time_cost: float = within(0.05, 0, 1000)  # a step; as Reach's
    jerk_weight: float = within(1.0, 0, 1000)  # as Reach's


# What a person does between two episodes, before each so many numbers of `Task.set_up`; a task that is not here needs nobody.
THINGS = {
    "stack": (("a brick into the hand; the fixed one so that a brick on it has its middle at", 3),),
    "push": (("the thing stands at", 2),),
}
SEEN_THINGS = {  # where the policy sees by cameras and is told nothing
    "reach": (("what is to be reached hangs at", 3),),
    "push": (("the thing stands at", 2), ("its place is marked at", 2)),
}


def things(task: Task) -> tuple[tuple[str, int], ...]:
    """What there is to be set up for each episode of a task, and by how many numbers each is placed."""
    return (SEEN_THINGS if task.pixels.cameras else THINGS).get(task.name, ())


def fitting_reach(run: Run, where: Sources) -> None:
    """What an arm that reaches needs."""
    reach, robot, box = run.task.reach, run.robot, run.robot.workspace
    arms = ", ".join(ARMS)
    require(robot.kind in ARMS, "robot.kind", f'one of {arms} for task.name = "reach"', robot.kind, where, "task.name")
    require(not run.agent.mirror, "agent.mirror", "false: an arm has no left and right", run.agent.mirror, where, "task.name")
    for key, values in (("goal_low", reach.goal_low), ("goal_high", reach.goal_high)):
        require(len(values) == 3, f"task.reach.{key}", "three numbers, x, y, z", list(values), where)
    ordered = all(a < b for a, b in zip(reach.goal_low, reach.goal_high, strict=True))
    require(ordered, "task.reach.goal_low", "less than goal_high, each", list(reach.goal_low), where, "task.reach.goal_high")
    inside = not box.low or all(
        low <= a and b <= high for low, a, b, high in zip(box.low, reach.goal_low, reach.goal_high, box.high, strict=True)
    )
    require(inside, "task.reach.goal_low", "within robot.workspace, and goal_high too", list(reach.goal_low), where)
    slew = robot.limits.slew_rad_s / run.task.rate_hz
    require(reach.step_rad <= slew, "task.reach.step_rad", f"at most robot.limits.slew_rad_s a period, {slew:g}", reach.step_rad,
            where, "task.rate_hz")  # fmt: skip


def fitting_legs(run: Run, where: Sources) -> None:
    """What the tasks of D'Kitty need."""
    robot, name = run.robot, run.task.name
    require(robot.kind == "dkitty", "robot.kind", f'dkitty for task.name = "{name}"', robot.kind, where, "task.name")
    require(len(robot.home) == 12, "robot.home", "12 angles: where an episode begins", list(robot.home), where)
    walk, stand = run.task.walk_to, run.task.stand
    for key, values in (("near", walk.near), ("far", walk.far)):
        require(len(values) == 2, f"task.walk_to.{key}", "two numbers, m and rad", list(values), where)
    require(len(stand.pose) == 12, "task.stand.pose", "12 angles", list(stand.pose), where)


def fitting_arm(run: Run, where: Sources) -> None:
    """What the other tasks of an arm need."""
    robot, name, start, n = run.robot, run.task.name, run.task.start, len(run.robot.servos.ids)
    arms = ", ".join(ARMS)
    require(robot.kind in ARMS, "robot.kind", f'one of {arms} for task.name = "{name}"', robot.kind, where, "task.name")
    require(not run.agent.mirror, "agent.mirror", "false: an arm has no left and right", run.agent.mirror, where, "task.name")
    require(len(start) in (0, n), "task.start", f"{n} angles, or none", list(start), where)
    settings: Stack | Push = run.task.push if name == "push" else run.task.stack
    slew = robot.limits.slew_rad_s / run.task.rate_hz
    require(settings.step_rad <= slew, f"task.{name}.step_rad", f"at most robot.limits.slew_rad_s a period, {slew:g}",
            settings.step_rad, where, "task.rate_hz")  # fmt: skip


def fitting_takeover(run: Run, where: Sources) -> None:
    """What a person needs to lead a robot."""
    settings, n, arms = run.takeover, len(run.robot.servos.ids), ", ".join(ARMS)
    for key in ("takeover.device", "twin.takeover"):
        wanted = settings.device if key == "takeover.device" else run.twin.takeover
        led = not wanted or (run.robot.kind in ARMS and run.task.name in ("reach", "push", "stack"))
        require(led, key, f"left out: only an arm with a task ({arms}) can be led", repr(wanted), where, "task.name")
    named = settings.device not in ("joystick", "leader") or bool(settings.path)
    require(named, "takeover.path", f"where the {settings.device} is", "empty", where, "takeover.device")
    for key, values in (("sign", settings.sign), ("offset", settings.offset)):
        require(len(values) in (0, n), f"takeover.{key}", f"{n} numbers, one a servo, or none", list(values), where)
    require(settings.device != "leader" or run.robot.servos.protocol == "feetech", "takeover.device",
            "another one: only a Feetech arm can lead", "leader", where, "robot.servos.protocol")  # fmt: skip


def fitting_pixels(run: Run, where: Sources) -> None:
    """What an arm needs that sees."""
    names, views = run.task.pixels.cameras, run.twin.views
    key, found = "task.pixels.cameras", list(names)
    require(run.task.name in ("reach", "push"), key, 'empty unless task.name is "reach" or "push"', found, where, "task.name")
    require(len(set(names)) == len(names) <= 4, key, "at most four names, each once", found, where)
    require(not run.task.pixels.told or run.task.reward == "classifier", "task.pixels.told",
            'false, or task.reward = "classifier": else nobody looks', "true", where, "task.reward")  # fmt: skip
    known = ", ".join(views) or "none"
    require(set(names) <= set(views), key, f"names of [twin.views.NAME] ({known})", found, where)
    bent = run.twin.optics.distortion
    require(len(bent) == 5, "twin.optics.distortion", "five numbers", list(bent), where)
    for name, view in views.items():
        for part, values in (("eye", view.eye), ("target", view.target)):
            require(len(values) == 3, f"twin.views.{name}.{part}", "three numbers, x, y, z", list(values), where)


FITTING: dict[str, Callable[[Run, Sources], None]] = {
    "reach": fitting_reach,
    "stack": fitting_arm,
    "push": fitting_arm,
    "walk_to": fitting_legs,
    "stand": fitting_legs,
}
