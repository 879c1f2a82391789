"""Messages: typed, stamped structs in SI units and radians (a name that says otherwise carries its unit).

Every message begins with the same five fields, filled in by the publisher (`bus.Publisher`) or, in lockstep, by the rehearsal:
who said it, in which life of that process, its running number, when what it says was *captured* (monotonic clock, ns) and for
how long it may be believed. A flag's false means healthy.
"""

from __future__ import annotations

import msgspec

Vector = tuple[float, ...]
KEY_NS = 500_000_000  # from a press until its key asks for nothing any more but to stop, to pause or to hand back
PERSON = -2  # in the place of a policy's version: a person led. -1: nobody had learnt anything yet


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What all messages share. `t` is the capture time on this machine's monotonic clock in ns; `valid_ns` its shelf life."""

    source: str = ""
    boot: int = 0
    seq: int = 0
    t: int = 0
    valid_ns: int = 0


class Joints(Message, frozen=True, kw_only=True, gc=False):
    """One bus cycle's reading of all servos, in the robot's motor order. Shapes: (n,).

    `missed[i]` counts the cycles since servo i last answered (0: these values are from this cycle); a value that was not read in
    this cycle is the last one read and must not be taken as fresh. `fault[i]` is the servo's own code, 0 when healthy.
    """

    tick: int
    position: Vector  # rad, robot convention (sign and offset applied)
    velocity: Vector  # rad/s
    torque: Vector  # Nm, as the servo reports it
    temp_c: Vector  # of a moteus its winding, or its board where there is no thermistor; nan: a thermistor that says nothing
    voltage: Vector
    mode: tuple[int, ...]
    fault: tuple[int, ...]
    missed: tuple[int, ...]
    board_c: Vector = ()  # of boards that have a limit of their own, `config.Servos.board_c`; empty: none has


class Imu(Message, frozen=True, kw_only=True, gc=False):
    """Attitude (rad), body rates (rad/s) and specific force (m/s^2). `stale` is true when no good frame came lately.

    `refused`: how many samples in a row were out of the sensor's range, the longest row of the last 60 ms.
    """

    roll: float
    pitch: float
    yaw: float
    rates: Vector  # (3,) body x, y, z
    accel: Vector  # (3,) body x, y, z
    stale: bool = False
    refused: int = 0


class Pose(Message, frozen=True, kw_only=True, gc=False):
    """Pose of the torso in the tracker's world frame; `t` is when the picture was taken, not when it arrived.

    A tracker that says a velocity says of when: a filter's delay is `t - velocity_t`.
    """

    position: Vector  # (3,) m
    rpy: Vector  # (3,) rad
    velocity: Vector = ()  # (3,) m/s; empty: not known
    velocity_t: int = 0  # ns, as `t`: the middle of the time over which it was measured
    reckoned: bool = False  # not seen: the way since the last sight, by the legs and the IMU


class Action(Message, frozen=True, kw_only=True, gc=False):
    """Targets asked for, joint space, rad, shape (n,). `epoch` is the lease it is sent under; `tick` the Joints it answers."""

    epoch: int
    tick: int
    target: Vector
    episode: int = 0
    step: int = 0
    policy_version: int = 0  # whose action it is; PERSON: of nobody's policy


class Applied(Message, frozen=True, kw_only=True, gc=False):
    """What the gate really sent to the wire in bus cycle `tick`. This, not what was asked for, is stored and learned from.

    `action_seq`/`action_tick` name the Action it came from; both are -1 when the gate held its own goal instead (`held`).
    """

    tick: int
    writer: str  # "policy", "reset", or "hold"
    epoch: int
    target: Vector  # rad, after the gate, as decoded from the bytes that were sent
    clamped: tuple[int, ...]  # per joint: bit 0 range, 1 slew, 2 lead
    action_seq: int = -1
    action_tick: int = -1
    episode: int = -1
    step: int = -1
    policy_version: int = -1
    held: bool = False
    refused: str = ""  # why the newest action was not used, empty when it was


class Drive(Message, frozen=True, kw_only=True, gc=False):
    """Health of the servo loop: what the driver did, how late it was, what it could not confirm."""

    tick: int
    gate_open: bool
    torque_on: bool
    powered_off_confirmed: bool
    late_us: float
    cycle_us: float
    overruns: int
    frame_errors: int
    stop: str  # the stop profile's stage now running, empty when none
    present: bool = True  # the port is open
    unrescued: bool = False  # nobody would stop the motors by the profile should the driver die
    frozen: bool = False  # a bus servo's reading stands still while its motor runs
    raised: bool = False  # an arm is not down yet, and its torque goes off soon, or went
    disobeyed: bool = False  # servos that answer were told to stop, each and then all at once, and have not

    @property
    def lowers(self) -> bool:
        """The stop profile lowers an arm, or holds it on its way down: torque is on."""
        return self.stop in ("stow", "hold")


class Teleop(Message, frozen=True, kw_only=True, gc=False):
    """Whether a person leads the robot in the policy's place, and where to: the pilot makes actions of it, under its own lease.

    An intervention that nobody handed back, and that did not end with its lease, says why in `lost`: then nobody leads.
    """

    device: str
    active: bool
    epoch: int  # the lease under which it was taken over
    twist: Vector = ()  # (6,) of the hand, base frame: x, y, z in m/s; about x, y, z in rad/s
    angles: Vector = ()  # (n,) rad, in the place of it: where the joints of a leader arm are
    lost: str = ""
    note: str = ""  # for the person: why he may not take over, or what became of it
    moved: bool = False  # he has just moved the device: he is there


class Permit(Message, frozen=True, kw_only=True, gc=False):
    """The guard's word to the gate, 50 Hz, valid 60 ms: which state, whose actions, under which lease. Silence shuts the gate."""

    state: str
    epoch: int
    holder: str  # "policy", "reset" or "" (nobody: hold)
    torque: bool
    speed_scale: float = 1.0
    hold: bool = False  # an arm that the stop profile lowers stays where it is: a stop key's word


class Guard(Message, frozen=True, kw_only=True, gc=False):
    """The state machine as the console shows it."""

    state: str
    causes: tuple[str, ...]  # active or latched, most severe first
    last_cause: str
    session: bool
    epoch: int
    holder: str
    nonce: int  # what a console must echo within 5 s
    note: str = ""  # what the operator is asked to do
    trigger: str = ""  # what changed the state in this very period, empty when it did not change
    led: bool = False  # a person leads in the policy's place


class Operator(Message, frozen=True, kw_only=True, gc=False):
    """A key, as a command. `press` is unique per key press, so that it acts exactly once."""

    command: str  # enable run pause stop clear reset good bad beat
    press: int
    nonce: int = 0
    value: float = 0.0
    seen_tick: int = -1  # the frame that was on the screen when the key was pressed
    pid: int = 0  # in a beat: whose end is the console's end
    role: str = ""  # of a peer on another machine, as the gateway knows it; a console here has none


class Beat(Message, frozen=True, kw_only=True, gc=False):
    """A node's heartbeat. `progress` counts finished loops: a live thread in a dead process does not move it."""

    progress: int
    note: str = ""


class Episode(Message, frozen=True, kw_only=True, gc=False):
    """How the episode stands, from the policy; `ended` is empty while it runs."""

    episode: int
    step: int
    total_steps: int
    total_return: float
    speed: float  # m/s, net forward displacement over time
    policy_version: int  # -1: no weights yet
    policy_age_s: float  # since the learner published them; nan: no weights yet
    ended: str = ""  # "", "fall", "time", "stuck", "stopped", "tracker lost"
    transitions: int = 0  # in the replay
    dropped: int = 0  # transitions that could not be completed, ever
    tick: int = -1  # of the reading with which the newest step ended: with episode and step it names that step
    set_up: Vector = ()  # where a person puts the task's thing, m: before this episode, or, when it has ended, the next


class Learner(Message, frozen=True, kw_only=True, gc=False):
    """The learner's progress."""

    updates: int
    version: int
    updates_per_s: float
    transitions: int
    critic_loss: float = 0.0
    actor_loss: float = 0.0
    entropy: float = 0.0
    temperature: float = 0.0
    engine: str = ""  # "fused AVX-512" ..., "torch", "reference"; "building" while there is none yet
    updates_per_step: float = 0.0  # really done, for each transition that counts
    owed: int = 0  # updates that the data so far is still worth
    dropped: int = 0  # updates owed beyond agent.max_backlog, which will not be done
    labels: int = 0  # the operator's, taken so far
    relabelled: int = 0  # rows whose reward or end a label changed after updates may have drawn them


class Reset(Message, frozen=True, kw_only=True, gc=False):
    """How the reset stands: running, done (verified), or failed with the operator being asked."""

    stage: str
    attempt: int
    outcome: str  # "running", "done", "failed", "idle"; "asks": done, and a person is to set the task up
    reason: str = ""


class Process(Message, frozen=True, kw_only=True, gc=False):
    """From the manager: a process started, died or was given up."""

    name: str
    pid: int
    event: str  # "started", "died", "stopped", "gave up" (and the run ends), "gone" (for good, and it goes on), "off" (detail)
    detail: str = ""
    restarts: int = 0


class Image(Message, frozen=True, kw_only=True, gc=False):
    """A frame of a camera, or that there is none. `t` is when it was exposed. Its pixels are in the camera's ring (`ring.py`)."""

    camera: str  # its name in the robot file
    count: int = 0  # of the ring's frames; 0: no pixels came with it
    fault: str = ""  # "repeated", "frozen", "black", "white", "flat", "late", "size", "unplugged"; empty: it is to be believed
    stamp: str = ""  # whose word `t` is: "device", "driver", or "arrival", which is all that some cameras give
    arrived: int = 0  # when the last byte of it was here, ns; how old it was then is `arrived` - `t`
    number: int = -1  # the camera's own count; -1: it has none
    dropped: int = 0  # frames that the camera counted and nobody saw, ever
    height: int = 0
    width: int = 0


class Picture(Message, frozen=True, kw_only=True, gc=False):
    """A frame, compressed: for the session, and for other machines. Of the same `t` and `count` as the Image.

    As `depth` it holds the distances of the picture's pixels: a PNG of 16 bits, without loss, in units of `depth_m`; 0: unknown.
    """

    camera: str
    count: int
    data: bytes  # a JPEG: the camera's own where it makes one
    format: str = "jpeg"
    depth_m: float = 0.0  # m


class Motion(Message, frozen=True, kw_only=True, gc=False):
    """What a camera's own IMU said since the message before it; `t` is the newest sample's. Axes: x right, y down, z ahead."""

    camera: str
    stamp: str  # whose word the times are, as in Image
    rates: tuple[tuple[int, float, float, float], ...] = ()  # when (monotonic, ns), rad/s; oldest first
    accel: tuple[tuple[int, float, float, float], ...] = ()  # when, m/s2; -9.8 along y in a camera that stands upright


class Label(Message, frozen=True, kw_only=True, gc=False):
    """What the operator says of a step, or of several (`robotrl/labels.py`), bound to what was on the screen; or takes back.

    `press` is unique to the key press. Episode, step and tick name the last step it is about, as `Episode` showed them; `life` is
    the policy's whose episode it is. A label that names no such step is refused, never moved to another.
    """

    press: int
    value: float
    tick: int  # -1: given without a look at the screen, the numbers alone tell
    giver: int = 0  # the console it comes from, for the life of that process
    number: int = 0  # of the giver's labels, from 1: one that is sent again keeps it
    oldest: int = 0  # before this number all are acknowledged
    kind: str = "add"  # one of `labels.KINDS`
    life: int = 0  # 0: of whichever
    episode: int = -1
    step: int = -1  # from 0, as in `Transition`
    first: int = -1  # the first step it is about; -1: that one alone
    text: str = ""
    undoes: tuple[int, int, int] = (0, 0, 0)  # giver, and the first and the last number, of what an "undo" takes back
    version: int = 0  # of the classifier that gives it; 0: a person does


class Classified(Message, frozen=True, kw_only=True, gc=False):
    """How the learned reward stands: which version, what it said of the newest frame, and why it gives no reward."""

    version: int  # 0: none yet
    why: str  # empty: it gives rewards
    probability: float = 0.0
    episode: int = -1  # the newest that it said something of
    audit: bool = False  # the operator is to judge the running episode too
    disagreements: int = 0  # episodes of which operator and classifier said different things, all versions
    last: str = ""  # the newest of them, in a line


class Transition(Message, frozen=True, kw_only=True, gc=False):
    """One step as it is learned from: little-endian float32 in bytes, shapes as in `replay.Batch`. From policy to recorder.

    `number` counts those of one life of the policy from 1, and stays when it is sent again; before `oldest` all are acknowledged.
    `life`: the boot of the policy whose it is, where another one sends it for it.
    With `cameras` (name, height, width, channels) it has a frame and a next one, uint8, camera after camera. Where it goes on
    from the transition before it, `images` is empty: that one's `next_images` are meant.
    Times are of the cycle `tick`, in which it ended: capture times as in `Thought`, 0 where there was none.
    """

    number: int
    observation: bytes  # (observation_size,)
    action: bytes  # (action_size,) what was really applied
    reward: float
    next_observation: bytes
    terminated: bool
    truncated: bool
    episode: int
    step: int
    tick: int
    policy_version: int
    joints_t: int = 0
    imu_t: int = 0
    pose_t: int = 0  # of the newest pose by then
    applied_t: int = 0  # when `action` was sent to the wire
    late_us: float = -1.0  # how late that cycle began; -1: the driver was not heard
    oldest: int = 0
    life: int = 0
    cameras: tuple[tuple[str, int, int, int], ...] = ()
    images: bytes = b""
    next_images: bytes = b""
    images_t: tuple[int, ...] = ()  # when each camera's frame was exposed: of `images`, also where these are left out
    next_images_t: tuple[int, ...] = ()


class Ack(Message, frozen=True, kw_only=True, gc=False):
    """From the recorder: what survives kill -9 and a power cut, and need be kept by nobody else.

    `kept`: the last number of each (kind of record, source, life of it), the newest at the end. `trouble`: why nothing more is.
    """

    kept: tuple[tuple[int, str, int, int], ...]
    durable: int  # sequence in the log
    transitions: int  # in the log, durable or not: as many will be in the replay
    trouble: str = ""
    labels: tuple[int, int, int] = (0, 0, 0)  # bound to their steps, waiting for them, refused; all that the log has
    refused: str = ""  # the last one refused, and why
    account: tuple[float, ...] = ()  # `account.Account.figures` of the run so far


class Call(msgspec.Struct, frozen=True, gc=False):
    """One call of a driver: what for ("cycle", "held", "lapse", "read", ...), its first event, what of the bus it was given."""

    kind: str
    event: int
    heard: tuple[tuple[str, int, int], ...] = ()  # (source, boot, seq) of each message


class Exchange(Message, frozen=True, kw_only=True, gc=False):
    """All that passed between a device and its driver, in order: what the driver needs to do the same again.

    Each event is a letter of `kinds`: c the clock was asked, r bytes were read (none: there were none yet), w bytes were written,
    e the port was lost. `at`: ns after `t`. `data`: the bytes of each r and w, the complaint of each e.
    """

    first: int  # number of the first message that these calls published
    calls: tuple[Call, ...]
    kinds: str
    at: tuple[int, ...]
    data: tuple[bytes, ...]
    missing: int = 0  # events that were too many


class Thought(Message, frozen=True, kw_only=True, gc=False):
    """What the policy did with one servo cycle, and with what: how old each sensor was, and all that is needed to do it again.

    Times are capture times, monotonic, ns; `t` is when the answer had been sent. Kept beside the transition of the same `tick`.
    """

    tick: int
    joints_t: int
    applied_t: int  # when the command that is now in force was sent to the wire
    imu_t: int  # -1: it has none
    pose_t: int  # of the newest pose, -1: none yet
    imu: tuple[int, int]  # (boot, seq)
    pose: tuple[int, int]
    permit: tuple[int, int]
    episode: int
    step: int
    steps: int  # transitions begun before this cycle, ever
    told: str = ""  # by which key the operator ended the episode in this cycle
    acted: bool = False
    policy_version: int = -1
    weights_t: int = -1  # when the learner wrote them
    noise: Vector = ()  # of exploration, as it was drawn, (a,)
    observation: bytes = b""  # what was acted on, (n,) little-endian float32
    hand: tuple[int, int] = (0, -1)  # (boot, seq) of the person's word, where there was one
    blind: bool = False  # its cameras showed nothing that is young enough
    images_t: tuple[int, ...] = ()  # when each camera's frame was exposed that it saw then
