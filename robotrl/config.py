"""Configuration: frozen dataclasses filled from TOML, a sentence a field. An unknown key or a wrong type stops at start.

A run file (`launch/walk.toml`) names a robot file (`launch/robots/minitaur.toml`); `--set a.b=c` overrides either. Coefficients
carry their source: a paper, a manual, or the word "chosen".
"""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robotrl.configfile import ConfigError, Source, bound, build, override, read, require


@dataclass(frozen=True)
class Servos:
    """The servo bus."""

    port: str = ""  # path of the fdcanusb adapter, a stable /dev/serial/by-id/... name
    ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)  # CAN ids in the robot's motor order
    sign: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1, 1)  # robot angle = sign * (servo angle - offset)
    offset: tuple[float, ...] = (0.0,) * 8  # rad; from the calibration file when there is one
    kp: float = 8.0  # Nm/rad; PD variant of the identified robot (hardware facts 1.3)
    kd: float = 0.3  # Nm s/rad; same source
    max_torque: float = 5.0  # Nm as the servo counts it (0.1 Nm/A): 50 A, 3.25 Nm at the shaft (hardware facts 1.3)
    continuous_torque: float = 2.8  # Nm, same count: 28 A; more than 30 A for 1 s shuts a motor off (hardware facts 1.3)
    peak_s: float = 0.4  # for so long on end a servo may use more than continuous_torque; then it is held to that; chosen
    velocity_limit: float = 60.0  # rad/s, written to the servo; chosen
    watchdog_s: float = 0.1  # moteus default: silence longer than this stops the motor


@dataclass(frozen=True)
class ImuPort:
    """The IMU on its own serial port (WitMotion WT901)."""

    port: str = ""  # path of its serial adapter
    baud: int = 115200  # carries 4 frames x 11 bytes x 200 Hz
    rate_hz: int = 200  # output rate asked for and read back


@dataclass(frozen=True)
class TrackerPort:
    """The pose tracker's line stream: one pose a line, from a camera or motion-capture computer."""

    port: str = ""  # path of its serial adapter
    baud: int = 921600


@dataclass(frozen=True)
class Limits:
    """What the gate lets through, for every writer. Same for all joints of a Minitaur."""

    position_min: float = 0.4  # rad; motor bounds 0.5..2.5 of the PyBullet class, widened for the swing range; chosen
    position_max: float = 3.6  # rad; chosen
    slew_rad_s: float = 45.0  # fastest change of a target: the largest step that the walking task can ask for is 0.85 rad; chosen
    lead_rad: float = 1.8  # farthest target from the present angle: what 2 periods at slew_rad_s can travel
    gap_min: float = 0.1  # rad, distance of the two motors of a leg: pi - 2(extension - pi/2) stays in [gap_min, 2 pi - gap_min]
    temp_c: float = 100.0  # winding temperature that stops the run; rated 120 or more in motors of this class; chosen
    tilt_rad: float = 0.52  # 30 degrees: a fall (safety facts, row 58)
    tilt_s: float = 0.1  # for this long
    falls: int = 5  # in 10 minutes, inside a session, after which a person must look (safety facts, row 58)


@dataclass(frozen=True)
class Robot:
    """A robot: how it is wired, what it may do."""

    name: str = "minitaur"
    kind: str = "minitaur"  # which class in drivers/legged.py
    serial: str = ""  # the robot's own id; calibration and commissioning records carry the same
    stop_profile: str = "damp"  # legs: damp, then off (safety facts 3.2)
    stop_damp_s: float = 0.5  # how long damping lasts before torque goes off; chosen
    servos: Servos = field(default_factory=Servos)
    imu: ImuPort = field(default_factory=ImuPort)
    tracker: TrackerPort = field(default_factory=TrackerPort)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Twin:
    """The far end of the wires: physics, servo firmware, sensors. Nothing here reaches hardware."""

    urdf: str = "quadruped/minitaur_rainbow_dash.urdf"  # in pybullet_data: the identified robot (Tan et al. 2018)
    physics_dt: float = 0.002  # s; results barely change below it (hardware facts 1.5)
    solver_iterations: int = 30
    battery_v: float = 16.0  # hardware facts 1.3
    pd_latency_s: float = 0.003  # Tan et al. 2018
    joint_noise_rad: float = 0.002  # sd of a joint reading; chosen
    imu_rate_hz: int = 200
    imu_latency_s: float = 0.005  # chosen; the policy's own period adds 20 ms
    imu_noise_rad: float = 0.01  # sd of roll and pitch; Tan et al. give 0 to 0.05
    imu_rate_noise: float = 0.05  # rad/s, sd of the gyro; chosen
    tracker_rate_hz: float = 60.0  # hardware facts 9
    tracker_delay_s: float = 0.033  # exposure, detection, transport; chosen
    tracker_noise_m: float = 0.002  # lateral sd of a tag board at 2 m (hardware facts 9)
    tracker_noise_rad: float = 0.006
    period_jitter: float = 0.1  # the control period varies by up to this fraction; chosen
    randomise: bool = True  # domain randomisation at every reset; ranges in sim/domain.py with their source
    terrain: str = "flat"  # flat, slope:+5, blocks, stairs-down[:cm], stairs-up[:cm]
    push_n: float = 0.0  # N, horizontal; one push an episode has half to all of it, 0 for none
    push_down_n: float = 0.0  # N, downwards; the same push has 0.6 to all of it: 500 for Tan et al.'s 300 to 500
    push_s: float = 0.1  # how long it lasts; Tan et al.: 10 control steps of 6 ms
    wire_time: bool = True  # on the wall clock, bytes take the time they take on the wire


@dataclass(frozen=True)
class Task:
    """Walking: the MDP of Haarnoja et al. 2019 (learning facts 4.1)."""

    name: str = "walk"
    rate_hz: float = 50.0  # 160k steps = 53 min, the published label (learning facts 4.1)
    history: int = 5  # past observations and actions in the policy's input; Haarnoja et al.
    episode_steps: int = 500  # truncation; same source
    swing_range: float = 0.5  # rad about 0; authors' minitaur_extended_env
    extension_range: float = 0.35  # rad about extension_centre; theirs, 0.5, lets the torso lean at 30 degrees; chosen
    extension_centre: float = 2.0  # rad; authors' minitaur_extended_env
    smoothing: float = 0.5  # of the way to an action that the legs' target moves in a step; 1: no low-pass; chosen
    speed_cap: float = 0.5  # m/s, reward is clip(v, +-cap); authors' minitaur_extended_env
    overspeed_weight: float = 1.0  # times speed beyond overspeed_free: a gait that runs away downhill pitches over; chosen
    overspeed_free: float = 0.7  # m/s; a gait's speed swings by 0.2 within a stride, and that should cost nothing; chosen
    acceleration_weight: float = 0.1  # times mean |second difference| of the last three leg targets, rad; same source
    tilt_weight: float = 0.5  # times the larger of roll and pitch beyond tilt_free; theirs, its size unpublished; chosen
    tilt_free: float = 0.1  # rad; with 0.2 the gaits lean at 0.25 and have half as much left to a fall; chosen
    turning_weight: float = 0.1  # times |yaw rate|, rad/s: the policy does not see its heading; Walk in the Park, there of 1
    fold_weight: float = 0.05  # times front-leg swing under the body beyond fold_free; chosen (paper's third penalty)
    fold_free: float = 0.4  # rad; chosen
    effort_weight: float = 0.006  # times mean squared torque, Nm^2 as the servo counts it: without it motors overheat; chosen
    fall_penalty: float = 10.0  # once, at a fall: more than a lunge forward earns before it; a fall costs a reset; chosen
    fall_tilt: float = 0.52  # rad, roll or pitch: the episode terminates; Walk in the Park and safety row 58
    stuck_s: float = 3.0  # so long without stuck_m of way forwards truncates the episode; 1e9: never; chosen
    stuck_m: float = 0.15  # m: early policies fold the legs and lie; crawling is faster; chosen
    velocity_window_s: float = 0.1  # over which the tracker's poses give a speed; chosen
    tracker_patience_s: float = 1.0  # the episode ends when poses stay away longer (hardware facts 9)


@dataclass(frozen=True)
class Agent:
    """Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905)."""

    name: str = "sac"
    engine: str = "auto"  # auto, fused, torch, reference
    hidden: tuple[int, ...] = (256, 256)
    discount: float = 0.97  # a horizon of 0.7 s, two steps of a gait; HIL-SERL's; 0.99 keeps an early over-estimate for 15k steps
    polyak: float = 0.01  # target smoothing; twice the paper's, with the shorter horizon; chosen
    batch: int = 256
    actor_lr: float = 5e-4  # the paper's is 3e-4; chosen
    critic_lr: float = 5e-4
    temperature_lr: float = 5e-4  # 0: the temperature stays the initial one
    actor_every: int = 1  # critic updates to one of actor and temperature; REDQ, DroQ and Walk in the Park: updates_per_step
    initial_temperature: float = 0.02  # times the entropy, no more than the reward is in size; chosen
    target_entropy: float = -4.0  # minus half the action size, as Walk in the Park; nan: minus the action size, as the paper
    critics: int = 2
    target_subset: int = 0  # so many critics, drawn for each update, give the target; 0: all; REDQ (Chen et al. 2021): 2 of 10
    actor_value: str = "min"  # of the critics in the actor's loss: "min", the paper's, or "mean", REDQ's, DroQ's, RLPD's
    mirror: bool = True  # half of the rows are learnt from with left and right exchanged (Abdolhosseini et al. 2019, DUP)
    n_step: int = 1  # rewards summed before the bootstrap (Sutton and Barto, ch. 7; Rainbow's 3); uncorrected: biased off-policy
    demonstrations: str = ""  # a run directory whose transitions are half of every batch: RLPD (Ball et al. 2023)
    layer_norm: bool = False  # normalise the critics' hidden layers: DroQ (Hiraoka et al. 2022), Walk in the Park
    dropout: float = 0.0  # rate in the critics' hidden layers, before normalisation and ReLU; DroQ, Walk in the Park: 0.01
    updates_per_step: float = 1.0  # UTD: the learner is paced by data
    max_backlog: int = 3000  # steps' worth of updates that may be owed on the wall clock, a minute's; the rest is dropped; chosen
    random_steps: int = 2000  # uniform actions first
    noise_beta: float = 1.0  # exploration has a power spectrum 1/f^beta; 1 is pink (Eberhard et al. 2023), 0 the paper's white
    learn_after: int = 2000  # transitions before the first update
    publish_every: int = 50  # steps between two weight versions
    threads: int = 1
    capacity: int = 1_000_000  # transitions the replay can hold


@dataclass(frozen=True)
class Run:
    """One run: what trains, for how long, with what seed."""

    name: str = "walk"
    steps: int = 30_000  # control steps of the policy; about as many as a robot that walks needs here
    seed: int = 0
    evaluation_episodes: int = 10
    real_time: bool = True  # on the wall clock, ask for real-time priority; without the right to it the run says so and goes on
    robot: Robot = field(default_factory=Robot)
    task: Task = field(default_factory=Task)
    agent: Agent = field(default_factory=Agent)
    twin: Twin = field(default_factory=Twin)


AT_LEAST = {
    "seed": 0, "steps": 1, "evaluation_episodes": 1, "task.history": 1, "task.episode_steps": 1, "agent.batch": 1,
    "agent.critics": 1, "agent.threads": 1, "agent.publish_every": 1, "agent.capacity": 1, "agent.noise_beta": 0,
    "agent.n_step": 1, "agent.max_backlog": 1, "agent.actor_every": 1, "agent.actor_lr": 0, "agent.critic_lr": 0,
    "agent.temperature_lr": 0, "agent.target_subset": 0, "agent.dropout": 0, "task.overspeed_weight": 0, "twin.push_n": 0,
    "twin.push_down_n": 0, "twin.push_s": 0,
}  # fmt: skip
ABOVE_ZERO = (
    "task.rate_hz", "task.swing_range", "task.extension_range", "task.smoothing", "task.stuck_s", "task.velocity_window_s",
    "agent.initial_temperature", "twin.physics_dt",
)  # fmt: skip


def load(path: Path, overrides: list[str] | None = None) -> Run:
    """Read a run file, the robot file it names, and `key.path=value` overrides; every complaint names file and line."""
    data = read(path)
    where = {"": Source(path, path.read_text())}
    name = data.pop("robot", "minitaur")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: 'robot' names a file in {path.parent / 'robots'}; write robot = \"minitaur\"")
    robot_path = path.parent / "robots" / f"{name}.toml"
    if not robot_path.is_file():
        known = sorted(p.stem for p in robot_path.parent.glob("*.toml"))
        raise ConfigError(f"{path}: no robot file {robot_path}; known robots: {', '.join(known) or 'none'}")
    data["robot"] = read(robot_path)
    where["robot"] = Source(robot_path, robot_path.read_text())
    for item in overrides or []:
        override(data, item)
        where[item.split("=", 1)[0].strip()] = Source(Path("--set"), item)
    return _made(data, where)


def _made(data: dict[str, Any], where: dict[str, Source]) -> Run:
    """The run that `data` describes; ConfigError for what could not be run."""
    run = typing.cast(Run, build(Run, data, "", where))
    bound(run, AT_LEAST, ABOVE_ZERO, where)
    _learnable(run.agent, where)
    return run


def _learnable(agent: Agent, where: dict[str, Source]) -> None:
    """ConfigError for settings of the agent that do not fit each other."""
    few = agent.target_subset <= agent.critics
    require(few, "agent.target_subset", f"at most agent.critics, {agent.critics}", agent.target_subset, where)
    require(agent.actor_value in ("min", "mean"), "agent.actor_value", '"min" or "mean"', repr(agent.actor_value), where)
    require(agent.dropout < 1, "agent.dropout", "less than 1", agent.dropout, where)


def from_dict(data: dict[str, Any], path: Path) -> Run:
    """A run as `to_dict` wrote it, read back from a run directory; the same checks, complaints name `path`."""
    text = path.read_text() if path.is_file() else ""
    return _made(data, {"": Source(path, text)})


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict, ready for JSON; nan becomes None."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, float) and math.isnan(value):
            value = None
        out[f.name] = value
    return out
