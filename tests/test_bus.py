"""The bus between processes: order, newest, gaps, one writer a stream, nothing that runs code."""

import msgspec
import pytest
import zmq

from robotrl.bus import Bus, BusError
from robotrl.clock import WallClock
from robotrl.messages import Action, Beat, Permit, Pose


@pytest.fixture
def ends(tmp_path):
    made = []

    def make(source):
        made.append(Bus(tmp_path, source, WallClock()))
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


def test_a_latest_topic_gives_the_newest_to_a_stalled_reader(ends):
    writer, reader = ends("guard"), ends("servos")
    publisher, subscriber = writer.publisher("permit"), reader.subscriber("permit")
    permit = Permit(state="HOLD", epoch=0, holder="", torque=True)
    settle(publisher, reader, subscriber, permit)
    for epoch in range(1, 60):
        publisher.send(Permit(state="RUN", epoch=epoch, holder="policy", torque=True))
    for _ in range(200):
        if subscriber.latest().epoch == 59:
            break
        reader.wait([subscriber], 0.01)
    assert subscriber.latest().epoch == 59


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
    writer, reader = ends("imu"), ends("policy")
    publisher, subscriber = writer.publisher("beat"), reader.subscriber("beat")
    settle(publisher, reader, subscriber, Beat(progress=0))
    publisher.seq += 5
    for _ in range(500):  # what `settle` sent may still be under way: the gap shows with the first message behind it
        publisher.send(Beat(progress=1))
        reader.wait([subscriber], 0.05)
        subscriber.drain()
        if subscriber.lost:
            break
    assert subscriber.lost == 5


def test_no_bus_is_one_line(tmp_path):
    with pytest.raises(BusError, match="not live"):
        Bus(tmp_path / "none", "policy", WallClock())


@pytest.mark.parametrize("frame", [b"\x81\xa6source\xa2\xff\xff", b"\x81\xa1x" + b"\x91" * 60_000, b"\x90", b""])
def test_a_frame_that_is_no_message_is_counted_and_nothing_is_raised(ends, frame):
    subscriber = ends("policy").subscriber("pose")
    assert subscriber.take(frame) is None and (subscriber.bad, subscriber.count) == (1, 0)


def test_a_source_of_many_lives_is_not_remembered_for_each(ends):
    subscriber = ends("policy").subscriber("pose")
    for boot in range(1000):
        message = Pose(source="tracker", boot=boot, seq=1 + boot, position=(0.0,) * 3, rpy=(0.0,) * 3)
        assert subscriber.take(msgspec.msgpack.encode(message)) == message
    assert subscriber.lost == 0 and len(subscriber._numbers) == 1
