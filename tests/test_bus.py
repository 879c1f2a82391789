"""The bus between processes: order, newest, gaps, one writer a stream, nothing that runs code."""

import os
import socket as sockets
import stat

import msgspec
import pytest
import zmq

from robotrl.bus import Bus, BusError
from robotrl.clock import LockstepClock, WallClock
from robotrl.messages import Action, Operator, Permit, Pose
from robotrl.patience import OUT_NS, REJECTS, WITHIN_NS
from robotrl.topics import TOPICS


@pytest.fixture
def ends(tmp_path):
    made = []

    def make(source, clock=None):
        made.append(Bus(tmp_path, source, clock or WallClock()))
        return made[-1]

    yield make
    for bus in made:
        bus.close()


def pose(x):
    return Pose(position=(x, 0.0, 0.0), rpy=(0.0, 0.0, 0.0))


def settle(publisher, bus, subscriber, message):
    """Send until the subscription has reached the publisher (a fresh subscriber misses the first messages)."""
    for _ in range(500):
        publisher.send(message)
        if subscriber.drain():
            return
        bus.wait([subscriber], 0.02)
    raise AssertionError("never connected")


def wait_for(bus, subscriber, count):
    got = []
    for _ in range(400):
        bus.wait([subscriber], 0.05)
        got += subscriber.drain()
        if len(got) >= count:
            break
    return got


def test_a_queue_topic_delivers_all_in_order(ends):
    writer, reader = ends("tracker"), ends("policy")
    publisher, subscriber = writer.publisher("pose"), reader.subscriber("pose")
    settle(publisher, reader, subscriber, pose(-1.0))
    first = publisher.seq
    for i in range(300):
        publisher.send(pose(float(i)))
    got = [m for m in wait_for(reader, subscriber, 300) if m.seq > first]
    assert [m.position[0] for m in got] == [float(i) for i in range(300)]
    assert subscriber.lost == 0 and {m.source for m in got} == {"tracker"}


def test_who_wants_a_latest_topic_whole_gets_every_message_of_it(ends):
    writer, reader = ends("guard"), ends("recorder")
    publisher, subscriber = writer.publisher("permit"), reader.subscriber("permit", whole=True)

    def permit(i):
        return Permit(state="HOLD", epoch=i, holder="", torque=True)

    settle(publisher, reader, subscriber, permit(-1))
    for i in range(300):
        publisher.send(permit(i))
    got = [m.epoch for m in wait_for(reader, subscriber, 300)]
    assert got[-300:] == list(range(300)) and not subscriber.lost


def test_a_latest_topic_gives_the_newest_to_a_stalled_reader(ends):
    writer, reader = ends("guard"), ends("servos")
    publisher, subscriber = writer.publisher("permit"), reader.subscriber("permit")
    permit = Permit(state="HOLD", epoch=0, holder="", torque=True)
    settle(publisher, reader, subscriber, permit)
    before = subscriber.count
    for epoch in range(1, 60):
        publisher.send(Permit(state="RUN", epoch=epoch, holder="policy", torque=True))
    for _ in range(200):
        if subscriber.latest().epoch == 59:
            break
        reader.wait([subscriber], 0.01)
    assert subscriber.latest().epoch == 59 and subscriber.count - before < 30, "what was old is passed over, not kept for it"


def test_actions_of_two_writers_are_kept_apart(ends):
    policy, reset, servos = ends("policy"), ends("reset"), ends("servos")
    a, b, reader = policy.publisher("action"), reset.publisher("action"), servos.subscriber("action")
    for source, publisher in (("policy", a), ("reset", b)):
        for _ in range(500):
            publisher.send(Action(epoch=1, tick=7, target=(0.0,)))
            if reader.latest(source):
                break
            servos.wait([reader], 0.005)
    assert reader.latest("policy").source == "policy" and reader.latest("reset").source == "reset"


def test_one_writer_a_stream(ends):
    ends("tracker").publisher("pose")
    with pytest.raises(BusError, match="already publishes 'pose'"):
        ends("tracker").publisher("pose")
    with pytest.raises(BusError, match="may not publish"):
        ends("policy").publisher("permit")


def test_foreign_bytes_are_counted_and_dropped(ends, tmp_path):
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.bind(f"ipc://{tmp_path}/pose.tracker")
    reader = ends("policy")
    subscriber = reader.subscriber("pose")
    for _ in range(500):
        socket.send(b"\x80\x04\x95garbage")
        if subscriber.drain() or subscriber.bad:
            break
        reader.wait([subscriber], 0.005)
    socket.close(0)
    context.term()
    assert subscriber.bad and subscriber.latest() is None


def test_lost_messages_are_counted(ends):
    writer, reader = ends("tracker"), ends("policy")  # of a queue: a *latest* topic passes over some by itself
    publisher, subscriber = writer.publisher("pose"), reader.subscriber("pose")
    settle(publisher, reader, subscriber, pose(0.0))
    publisher.seq += 5
    for _ in range(500):  # what `settle` sent may still be under way: the gap shows with the first message behind it
        publisher.send(pose(1.0))
        reader.wait([subscriber], 0.05)
        subscriber.drain()
        if subscriber.lost:
            break
    assert subscriber.lost == 5


def test_no_bus_is_one_line(tmp_path):
    with pytest.raises(BusError, match="not live"):
        Bus(tmp_path / "none", "policy", WallClock())


@pytest.fixture
def foreign(tmp_path):
    """A socket of somebody who takes no lock; `foreign.close()` ends him."""
    contexts, held = [], []

    def bind(name="pose.tracker"):
        context = zmq.Context()
        contexts.append(context)
        socket = context.socket(zmq.PUB)
        held.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(f"ipc://{tmp_path}/{name}")
        return socket

    def close():
        while contexts:
            contexts.pop().destroy(0)

    bind.close = close
    yield bind
    close()


def say(socket, bus, subscriber, frames, until):
    for _ in range(500):
        socket.send_multipart(frames)
        bus.wait([subscriber], 0.005)
        subscriber.drain()
        if until():
            return
    raise AssertionError(subscriber.refused)


def packed(seq, source="tracker", boot=9, **more):
    message = {"source": source, "boot": boot, "seq": seq, "position": [0.0] * 3, "rpy": [0.0] * 3} | more
    return msgspec.msgpack.encode(message)


def test_the_directory_must_be_this_users_alone(tmp_path, monkeypatch):
    for mode in (0o755, 0o710, 0o702):
        tmp_path.chmod(mode)
        with pytest.raises(BusError, match=f"mode 0700 of this user's; this is this user's, mode {mode:04o}"):
            Bus(tmp_path, "policy", WallClock())
    tmp_path.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(BusError, match="a link"):
        Bus(link, "policy", WallClock())
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(BusError, match="of user"):
        Bus(tmp_path, "policy", WallClock())


def test_sockets_are_the_users_alone_and_the_umask_is_given_back(ends, tmp_path):
    before = os.umask(0o022)
    try:
        ends("tracker").publisher("pose")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"pose.tracker": 0o600, "pose.tracker.lock": 0o600}


def test_a_path_at_which_somebody_listens_is_refused_and_the_dead_leave_it(ends, tmp_path, foreign):
    foreign()
    with pytest.raises(BusError, match="another process listens here"):
        ends("tracker").publisher("pose")
    foreign.close()
    with sockets.socket(sockets.AF_UNIX) as dead:  # its name stays behind
        (tmp_path / "pose.tracker").unlink(missing_ok=True)
        dead.bind(str(tmp_path / "pose.tracker"))
    ends("tracker").publisher("pose")


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_no_socket_is_not_removed(ends, tmp_path, what):
    path = tmp_path / "pose.tracker"
    path.write_text("mine") if what == "file" else path.symlink_to("/dev/null")
    with pytest.raises(BusError, match="not a socket"):
        ends("tracker").publisher("pose")
    assert os.path.lexists(path)


def test_a_stolen_path_is_noticed_by_whose_it_was(ends, foreign):
    clock = LockstepClock()
    publisher = ends("tracker", clock).publisher("pose")
    publisher.send(pose(0.0))
    foreign()  # it succeeds: ZeroMQ is no lock
    clock.advance(2_000_000_000)
    with pytest.raises(BusError, match="another process has taken this socket"):
        publisher.send(pose(0.0))


def test_who_speaks_is_known_by_the_socket(ends, foreign):
    socket = foreign("action.reset")
    reader = ends("servos")
    subscriber = reader.subscriber("action")
    action = msgspec.msgpack.encode({"source": "policy", "boot": 1, "seq": 1, "epoch": 1, "tick": 1, "target": [0.0]})
    say(socket, reader, subscriber, [action], lambda: subscriber.refused["source"])
    assert subscriber.latest("policy") is None and subscriber.latest("reset") is None


def test_what_was_recorded_is_refused_in_the_life_and_after_it(ends, foreign):
    socket = foreign()
    reader = ends("policy")
    subscriber = reader.subscriber("pose")
    say(socket, reader, subscriber, [packed(5)], lambda: subscriber.count)
    say(socket, reader, subscriber, [packed(4)], lambda: subscriber.refused["replayed"])
    say(socket, reader, subscriber, [packed(1, boot=10)], lambda: subscriber.count == 2)
    refused = subscriber.refused["replayed"]
    say(socket, reader, subscriber, [packed(6)], lambda: subscriber.refused["replayed"] > refused)  # the life before
    assert subscriber.count == 2 and subscriber.latest().boot == 10


def test_several_frames_are_refused_whole(ends, foreign):
    socket = foreign()
    reader = ends("policy")
    subscriber = reader.subscriber("pose")
    say(socket, reader, subscriber, [packed(1), packed(2), packed(3)], lambda: subscriber.refused["frames"])
    assert subscriber.count == 0 and set(subscriber.refused) == {"frames"}


def test_a_message_longer_than_its_topics_is_not_taken_and_not_sent(ends, foreign):
    socket = foreign()
    reader = ends("policy")
    subscriber = reader.subscriber("pose")
    say(socket, reader, subscriber, [packed(1)], lambda: subscriber.count)
    for seq in range(2, 50):
        socket.send(packed(seq, note="x" * TOPICS["pose"].limit))
        reader.wait([subscriber], 0.005)
        subscriber.drain()
    assert subscriber.count == 1
    with pytest.raises(AssertionError):
        ends("console").publisher("operator").send(Operator(command="x" * TOPICS["operator"].limit, press=1))


def test_who_is_refused_a_hundred_times_at_once_is_not_heard_for_a_while(ends, foreign):
    socket, clock = foreign(), LockstepClock()
    reader = ends("policy", clock)
    subscriber = reader.subscriber("pose")
    say(socket, reader, subscriber, [b"garbage"], lambda: subscriber.bad >= REJECTS)
    socket.send(packed(1))
    clock.advance(OUT_NS - 1)
    assert not reader.wait([subscriber], 0.1) and subscriber.drain() == [] and not subscriber.sockets
    assert subscriber.bad == REJECTS, "nor is anything taken beyond these"
    clock.advance(1)
    say(socket, reader, subscriber, [packed(2)], lambda: subscriber.count)
    say(socket, reader, subscriber, [b"garbage"], lambda: subscriber.bad >= 2 * REJECTS)
    assert not subscriber.sockets, "and again"


def test_a_hundred_refusals_in_a_long_run_silence_nobody(ends):
    clock = LockstepClock()
    subscriber = ends("policy", clock).subscriber("pose")
    for _ in range(3 * REJECTS):
        clock.advance(WITHIN_NS // (REJECTS - 1) + 1)
        assert subscriber.take(b"garbage", "tracker") is None and not subscriber.drain()
    assert subscriber.bad == 3 * REJECTS and len(subscriber.sockets) == 1


@pytest.mark.parametrize("slowly", [True, False])
def test_a_consoles_stop_is_heard_whatever_else_of_it_is_refused(ends, slowly):
    """`slowly`: over a whole run; else as fast as it can."""
    clock = LockstepClock()
    console, reader = ends("console", clock), ends("guard", clock)
    publisher, subscriber = console.publisher("operator"), reader.subscriber("operator")
    settle(publisher, reader, subscriber, Operator(command="beat", press=0))
    for _ in range(400):
        clock.advance(1_000_000_000 if slowly else 1000)
        publisher._socket.send(b"garbage")
        reader.wait([subscriber], 0.005)
        subscriber.drain()
    assert subscriber.bad > REJECTS
    heard = []
    for press in range(1, 100):
        publisher.send(Operator(command="stop", press=press))
        woken = reader.wait([subscriber], 0.02)
        heard += [message.command for message in subscriber.drain()]
        if "stop" in heard:
            break
    assert "stop" in heard
    assert slowly or not woken, "but a flood leaves nobody awake"


@pytest.mark.parametrize("frame", [b"\x81\xa6source\xa2\xff\xff", b"\x81\xa1x" + b"\x91" * 60_000, b"\x90", b""])
def test_a_frame_that_is_no_message_is_counted_and_nothing_is_raised(ends, frame):
    subscriber = ends("policy").subscriber("pose")
    assert subscriber.take(frame, "tracker") is None and (subscriber.bad, subscriber.count) == (1, 0)


def test_a_source_of_many_lives_is_not_remembered_for_each(ends):
    subscriber = ends("policy").subscriber("pose")
    for boot in range(3000):
        message = Pose(source="tracker", boot=boot, seq=1 + boot, position=(0.0,) * 3, rpy=(0.0,) * 3)
        assert subscriber.take(msgspec.msgpack.encode(message), "tracker") == message
    assert subscriber.lost == 0 and len(subscriber._past) == 1000
