"""Configuration: frozen dataclasses filled from TOML, a sentence a field. An unknown key or a wrong type stops at start.

A run file (`launch/walk.toml`) names a robot file (`launch/robots/minitaur.toml`); `--set a.b=c` overrides either. Coefficients
carry their source: a paper, a manual, or the word "chosen". `within(default, low, high)` bounds a number, or each of a list.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from robotrl import robot as robots
from robotrl import stowtime, tasksettings
from robotrl.configfile import ConfigError, Source, Sources, build, check_whole_numbers, override, read, require, within
from robotrl.rewardsettings import Classifier, Operator
from robotrl.robot import CameraPort as CameraPort
from robotrl.robot import ImuPort as ImuPort
from robotrl.robot import Limits as Limits
from robotrl.robot import Protection as Protection
from robotrl.robot import Robot as Robot
from robotrl.robot import Servos as Servos
from robotrl.robot import TrackerPort as TrackerPort
from robotrl.tasksettings import Legs, Moves, Pixels, Push, Reach, Stack, Stand, WalkTo
from robotrl.twincameras import Optics as Optics
from robotrl.twincameras import Tripod as Tripod
from robotrl.twincameras import View as View

MANY = 1_000_000_000  # a bound that nobody meets


@dataclass(frozen=True)
class Twin:
    """The far end of the wires: physics, servo firmware, sensors. Nothing here reaches hardware."""

    urdf: str = "quadruped/minitaur_rainbow_dash.urdf"  # in pybullet_data: the identified robot (Tan et al. 2018)
    physics_dt: float = within(0.002, 0.001, 0.01)  # s; results barely change below it (hardware facts 1.5)
    solver_iterations: int = within(30, 1, 1000)
    battery_v: float = within(16.0, 1, 60)  # where nothing is drawn; hardware facts 1.3
    pd_latency_s: float = within(0.003, 0, 0.1)  # Tan et al. 2018
    joint_noise_rad: float = within(0.002, 0, 1)  # sd of a joint reading; chosen
    imu_rate_hz: int = within(200, 1, 200)
    imu_latency_s: float = within(0.005, 0, 0.1)  # chosen; the policy's own period adds 20 ms
    imu_noise_rad: float = within(0.01, 0, 1)  # sd of roll and pitch, where nothing is drawn; chosen
    imu_rate_noise: float = within(0.05, 0, 10)  # rad/s, sd of the gyro; chosen
    tracker_rate_hz: float = within(60.0, 5, 1000)  # hardware facts 9
    tracker_delay_s: float = within(0.033, 0, 1)  # exposure, detection, transport; chosen
    tracker_noise_m: float = within(0.002, 0, 1)  # lateral sd of a tag board at 2 m (hardware facts 9)
    tracker_noise_rad: float = within(0.006, 0, 1)
    period_jitter: float = within(0.1, 0, 0.9)  # in lockstep a control period varies by up to this fraction, same; chosen
    randomise: bool = True  # domain randomisation at every reset; ranges in sim/domain.py with their source
    falls: int = within(400, 0, MANY)  # in the place of robot.limits.falls: it learns to walk, and nothing breaks; chosen
    quiet_s: float = within(0.009, 0.0005, 0.1)  # in the place of robot.servos.quiet_s: its servos share our processor; chosen
    carried_back: bool = False  # in lockstep, to its start at every reset, as on a course and before a tracker's camera always
    terrain: str = "flat"  # flat, slope:+5, blocks, stairs-down[:cm], stairs-up[:cm]
    push_n: float = within(0.0, 0, 10_000)  # N, horizontal; one push an episode has half to all of it, 0 for none
    push_down_n: float = within(0.0, 0, 10_000)  # N, downwards; a push has 0.6 to all of it: 500 for Tan et al.'s 300 to 500
    push_s: float = within(0.1, 0, 10)  # how long it lasts; Tan et al.: 10 control steps of 6 ms
    tripod: Tripod = field(default_factory=Tripod)
    takeover: float = within(0.0, 0, 1)  # in lockstep: share of an arm's episodes that a scripted person takes over for a while
    views: dict[str, View] = field(default_factory=dict)  # for task.pixels.cameras
    view_hz: float = within(30.0, 1, 240)  # on the wall clock, their frames a second; in lockstep one for each decision
    optics: Optics = field(default_factory=Optics)
    wire_time: bool = True  # on the wall clock, bytes take the time they take on the wire
    adapter_s: float = within(0.001, 0, 0.1)  # and a bus servo's adapter keeps them so long: its latency timer (docs/hardware.md)


@dataclass(frozen=True)
class Task:
    """Walking: the MDP of Haarnoja et al. 2019 (learning facts 4.1). Name, rate and history are every task's."""

    name: Literal["walk", "reach", "walk_to", "stand", "stack", "push"] = "walk"
    # the task's own; the operator's keys alone (docs/labels.md); or these and a classifier taught by them (docs/classifier.md)
    reward: Literal["task", "keyboard", "classifier"] = "task"
    rate_hz: float = within(50.0, 20, 200)  # 160k steps = 53 min, the published label (learning facts 4.1)
    history: int = within(5, 1, 100)  # past observations and actions in the policy's input; Haarnoja et al.
    episode_steps: int = within(500, 1, MANY)  # truncation; same source
    swing_range: float = within(0.5, 0.01, 1.6)  # rad about 0; authors' minitaur_extended_env
    extension_range: float = within(0.35, 0.01, 1.6)  # rad about extension_centre; theirs, 0.5, lets it lean by 30 deg; chosen
    extension_centre: float = within(2.0, 0, 3.15)  # rad; authors' minitaur_extended_env
    smoothing: float = within(0.5, 0.01, 1)  # of the way to an action that the legs' target moves in a step; 1: all; chosen
    speed_cap: float = within(0.5, 0.01, 10)  # m/s, reward is clip(v, +-cap); authors' minitaur_extended_env
    overspeed_weight: float = within(1.0, 0, 1000)  # times speed beyond overspeed_free: who runs away downhill falls; chosen
    overspeed_free: float = within(0.7, 0, 1000)  # m/s; a stride's speed swings by 0.2, and that should cost nothing; chosen
    acceleration_weight: float = within(0.1, 0, 1000)  # times mean |second difference| of the last three leg targets, rad; theirs
    tilt_weight: float = within(0.5, 0, 1000)  # times the larger of roll and pitch beyond tilt_free; theirs, chosen in size
    tilt_free: float = within(0.1, 0, 1000)  # rad; with 0.2 the gaits lean at 0.25 and have half as much left to a fall; chosen
    turning_weight: float = within(0.1, 0, 1000)  # times |yaw rate|, rad/s: no heading is seen; Walk in the Park, there 1
    fold_weight: float = within(0.05, 0, 1000)  # times front-leg swing under the body beyond fold_free; paper, chosen in size
    fold_free: float = within(0.4, 0, 1000)  # rad; chosen
    effort_weight: float = within(0.006, 0, 1000)  # times mean squared torque, Nm^2, servo's count: else motors overheat; chosen
    fall_penalty: float = within(10.0, 0, 1000)  # once, at a fall: more than a lunge forward earns before it; chosen
    fall_tilt: float = within(0.52, 0.05, 3.15)  # rad, roll or pitch: the episode terminates; Walk in the Park and safety row 58
    stuck_s: float = within(3.0, 0.1, MANY)  # so long without stuck_m of way forwards truncates the episode; 1e9: never; chosen
    stuck_m: float = within(0.15, 0, 100)  # m: early policies fold the legs and lie; crawling is faster; chosen
    velocity_window_s: float = within(0.1, 0.01, 10)  # over which the tracker's poses give a speed; chosen
    tracker_patience_s: float = within(1.0, 0.05, 100)  # the episode ends when poses stay away longer (hardware facts 9)
    start: tuple[float, ...] = within((), -12.6, 12.6)  # rad: where the reset takes an arm before an episode; empty: robot.home
    reach: Reach = field(default_factory=Reach)
    moves: Moves = field(default_factory=Moves)
    pixels: Pixels = field(default_factory=Pixels)
    push: Push = field(default_factory=Push)
    stack: Stack = field(default_factory=Stack)
    legs: Legs = field(default_factory=Legs)
    walk_to: WalkTo = field(default_factory=WalkTo)
    stand: Stand = field(default_factory=Stand)


@dataclass(frozen=True)
class Agent:
    """Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905)."""

    name: Literal["sac"] = "sac"
    engine: Literal["auto", "fused", "torch", "cuda", "reference"] = "auto"
    hidden: tuple[int, ...] = within((256, 256), 1, 4096)
    discount: float = within(0.97, 0, 0.9999)  # a horizon of 0.7 s, two steps; HIL-SERL's; 0.99 over-estimates for 15k steps
    polyak: float = within(0.01, 1e-5, 1)  # target smoothing; twice the paper's, with the shorter horizon; chosen
    batch: int = within(256, 1, 65_536)
    actor_lr: float = within(5e-4, 0, 1)  # the paper's is 3e-4; chosen
    critic_lr: float = within(5e-4, 0, 1)
    temperature_lr: float = within(5e-4, 0, 1)  # 0: the temperature stays the initial one
    actor_every: int = within(1, 1, 1000)  # critic updates to one of the actor's; REDQ, DroQ, Walk in the Park: updates_per_step
    initial_temperature: float = within(0.02, 1e-6, 100)  # times the entropy, no more than the reward is in size; chosen
    # minus half of the walk's 8 actions, as Walk in the Park; not scaled to another's; nan: minus the action size, as the paper
    target_entropy: float = within(-4.0, -1000, 1000, nan=True)
    critics: int = within(2, 1, 100)
    target_subset: int = within(0, 0, 100)  # critics drawn for each update's target; 0: all; REDQ (Chen et al. 2021): 2 of 10
    actor_value: Literal["min", "mean"] = "min"  # of the critics in the actor's loss: the paper's, or REDQ's, DroQ's, RLPD's
    mirror: bool = True  # half of the rows are learnt from with left and right exchanged (Abdolhosseini et al. 2019, DUP)
    n_step: int = within(1, 1, 100)  # rewards summed before the bootstrap (Sutton and Barto, ch. 7); uncorrected: biased
    demonstrations: str = ""  # a run directory, or what `robotrl import` made, whose transitions are a part of every batch
    demonstrations_share: float = within(0.5, 0, 1)  # that part; half and half: RLPD (Ball et al. 2023)
    layer_norm: bool = False  # normalise the critics' hidden layers: DroQ (Hiraoka et al. 2022), Walk in the Park
    dropout: float = within(0.0, 0, 0.99)  # rate in the critics' hidden layers, before normalisation and ReLU; DroQ: 0.01
    shift_px: int = within(4, 0, 32)  # images are learned from moved by up to so much: DrQ (Kostrikov et al. 2020), there 4
    updates_per_step: float = within(1.0, 0.001, 1000)  # UTD: the learner is paced by data
    max_backlog: int = within(3000, 1, MANY)  # steps whose updates may be owed on the wall clock, a minute's at 50 Hz; chosen
    random_steps: int = within(2000, 0, MANY)  # uniform actions first
    noise_beta: float = within(1.0, 0, 5)  # exploration's power spectrum is 1/f^beta; 1: pink (Eberhard et al. 2023), 0: white
    learn_after: int = within(2000, 0, MANY)  # transitions before the first update
    publish_every: int = within(50, 1, MANY)  # steps between two weight versions, or their updates if these are done sooner
    threads: int = within(0, 0, 256)  # the learner's; 0: two in a rehearsal, one on the wall clock; chosen
    capacity: int = within(1_000_000, 1, MANY)  # transitions the replay can hold


@dataclass(frozen=True)
class Takeover:
    """With what a person leads an arm in the policy's place (docs/takeover.md)."""

    device: str = ""  # keyboard, joystick, leader, or the name of a plug-in; empty: nobody can take over
    path: str = ""  # joystick: its /dev/input/by-id/...-joystick name; leader: the second arm's serial adapter
    speed_m_s: float = within(0.1, 0.001, 1)  # of the hand, device fully deflected; chosen: slow enough to be followed by eye
    turn_rad_s: float = within(0.8, 0.01, 6)  # the same of its pitch
    silent_s: float = within(0.2, 0.04, 5)  # a device that should speak all the time and has not for so long is gone; chosen
    deadman: int = within(5, -1, 255)  # joystick: the button that is held down while it moves anything; right shoulder; -1: none
    match_rad: float = within(0.15, 0.01, 3.2)  # leader: each joint as near to the arm's when it takes over; chosen
    sign: tuple[Literal[1, -1], ...] = ()  # leader: as robot.servos.sign, of its own calibration; empty: the arm's
    offset: tuple[float, ...] = within((), -12.6, 12.6)  # leader: as robot.servos.offset; empty: the arm's


@dataclass(frozen=True)
class Network:
    """The one door to other machines (docs/security.md). Without `listen` nothing listens."""

    listen: str = ""  # "tcp://192.168.1.5:5555": a numeric address of this machine and a port; empty: no network
    keys: str = "~/.config/robotrl/keys"  # folder of the keys (robotrl keys)
    motion: bool = False  # a console on another machine may press enable, run and reset
    rate_hz: int = within(100, 1, 10_000)  # messages a peer may send in a second; a console sends 10 beats; chosen


@dataclass(frozen=True)
class Run:
    """One run: what trains, for how long, with what seed."""

    name: str = "walk"
    steps: int = within(36_000, 1, MANY)  # control steps of the policy; about as many as a robot that walks needs here
    seed: int = within(0, 0, MANY)
    checkpoint_every: int = within(
        10_000, 1, MANY
    )  # transitions between two checkpoints of a rehearsal; on the wall clock 2,000 updates
    evaluation_episodes: int = within(10, 1, MANY)
    real_time: bool = True  # on the wall clock, ask for real-time priority; without the right to it the run says so and goes on
    robot: Robot = field(default_factory=Robot)
    task: Task = field(default_factory=Task)
    agent: Agent = field(default_factory=Agent)
    twin: Twin = field(default_factory=Twin)
    operator: Operator = field(default_factory=Operator)
    takeover: Takeover = field(default_factory=Takeover)
    classifier: Classifier = field(default_factory=Classifier)
    network: Network = field(default_factory=Network)


def start_of(task: Task, robot: Robot) -> tuple[float, ...]:
    """Where an arm's episodes begin, rad."""
    return task.start or robot.home or tuple((a + b) / 2 for a, b in zip(robot.lowest, robot.highest, strict=True))


def load(path: Path, overrides: list[str] | None = None) -> Run:
    """Read a run file, the robot file it names, and `key.path=value` overrides; complaints name file and line, or override."""
    data = read(path)
    name = data.pop("robot", "minitaur")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]{0,99}", name, re.ASCII):
        raise ConfigError(f"{path}: 'robot' names a file in {path.parent / 'robots'}; write robot = \"minitaur\"")
    robot_path = path.parent / "robots" / f"{name}.toml"
    if not robot_path.is_file():
        known = sorted(p.stem for p in robot_path.parent.glob("*.toml"))
        raise ConfigError(f"{path}: no robot file {robot_path}; known robots: {', '.join(known) or 'none'}")
    data["robot"] = read(robot_path)
    overrides = overrides or []
    for item in overrides:
        override(data, item)
    robot = Source(robot_path, robot_path.read_text())
    return _made(data, Sources(Source(path, path.read_text()), robot, tuple(overrides)))


def recorded(data: dict[str, Any], path: Path) -> Run:
    """As `from_dict`, of a run that was made: what has become too little since then may be read, and is not driven."""
    return _made(data, _said(path), driven=False)


def _said(path: Path) -> Sources:
    return Sources(Source(path, path.read_text() if path.is_file() else ""))


def _made(data: dict[str, Any], where: Sources, driven: bool = True) -> Run:
    """The run that `data` describes; ConfigError for what could not be run."""
    check_whole_numbers(data, where)
    run = typing.cast(Run, build(Run, data, "", where))
    _fitting(run, where)
    if driven:
        stowtime.check(run.robot, run.task.rate_hz, where)
    return run


def _fitting(run: Run, where: Sources) -> None:
    """ConfigError for settings that do not fit each other: what no field's own bound can say."""
    agent = run.agent
    plain = "letters, digits, '.', '_' and '-' alone: it names directories"
    require(bool(re.fullmatch(r"[\w-][\w.-]*", run.name, re.ASCII)), "name", plain, repr(run.name), where)
    robots.check(run.robot, run.task.rate_hz, where)
    for key, low, other, high in (
        ("agent.target_subset", agent.target_subset, "agent.critics", agent.critics),
        ("steps", run.steps, "agent.capacity", agent.capacity),
    ):
        require(low <= high, key, f"at most {other}, {high:.10g}", low, where, other)
    address = r"(tcp://(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+)?"
    require(bool(re.fullmatch(address, run.network.listen)), "network.listen", 'like "tcp://192.168.1.5:5555"',
            repr(run.network.listen), where)  # fmt: skip
    require(0 < len(agent.hidden) <= 8, "agent.hidden", "1 to 8 layers", list(agent.hidden), where)
    tasksettings.fitting_takeover(run, where)
    if run.task.pixels.cameras:
        tasksettings.fitting_pixels(run, where)
    if (mine := tasksettings.FITTING.get(run.task.name)) is not None:
        mine(run, where)


def from_dict(data: dict[str, Any], path: Path) -> Run:
    """A run as `to_dict` wrote it, read back from a run directory; the same checks, complaints name `path`."""
    return _made(data, _said(path))


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict, ready for JSON; nan becomes None."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = [None if isinstance(one, float) and math.isnan(one) else one for one in value]
        elif isinstance(value, dict):
            value = {name: to_dict(one) for name, one in value.items()}
        elif isinstance(value, float) and math.isnan(value):
            value = None
        out[f.name] = value
    return out
