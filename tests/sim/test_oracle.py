"""The official moteus client, unmodified, against the twin process on its pty."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

moteus = pytest.importorskip("moteus")

ROOT = Path(__file__).resolve().parents[2]
IDS = range(1, 9)


@pytest.fixture
def twin():
    """The twin as anyone would start it; ends with the end of its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "robotrl", "twin", "--robot", "minitaur", "--until-eof", "--set", "twin.randomise=false"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line, f"the twin ended with {process.wait()}"
    yield process, json.loads(line)
    assert process.poll() is None, f"the twin died with {process.returncode}"
    process.stdin.close()
    assert process.wait(10) == 0
    assert process.stdout.read() == "", "more than one line on standard output"
    process.stdout.close()


def run(ports, story):
    async def with_bus():
        transport = moteus.Fdcanusb(ports["servos"])
        try:
            await story(transport, [moteus.Controller(id=i, transport=transport) for i in IDS])
        finally:
            transport.close()

    asyncio.run(asyncio.wait_for(with_bus(), 20))


async def modes(transport, servos):
    replies = await transport.cycle([s.make_query() for s in servos])
    return {r.id: r.values[moteus.Register.MODE] for r in replies}


async def hold(transport, servos, positions, seconds, **options):
    """Command positions (rev) every 20 ms for a while; the last replies by id."""
    replies = []
    for _ in range(round(seconds / 0.02)):
        commands = [s.make_position(position=p, query=True, **options) for s, p in zip(servos, positions, strict=True)]
        replies = await transport.cycle(commands)
        await asyncio.sleep(0.02)
    return {r.id: r.values for r in replies}


def test_query_move_and_watchdog(twin):
    _, ports = twin
    R = moteus.Register

    async def story(transport, servos):
        replies = await transport.cycle([s.make_query() for s in servos])
        assert [r.id for r in replies] == list(IDS)
        for reply in replies:
            assert reply.values[R.MODE] == 0 and reply.values[R.FAULT] == 0
            assert reply.values[R.VOLTAGE] == pytest.approx(16, abs=2.1)
            assert 20 < reply.values[R.TEMPERATURE] < 40
        start = [r.values[R.POSITION] for r in replies]
        goal = [p + 0.06 for p in start]  # all legs stretch
        await transport.cycle([s.make_stop() for s in servos])
        seen = await hold(transport, servos, goal, 0.6, watchdog_timeout=1.0)
        for i in IDS:
            assert seen[i][R.MODE] == 10
            assert abs(seen[i][R.POSITION] - start[i - 1]) > 0.01, "did not move"
            assert abs(seen[i][R.POSITION] - goal[i - 1]) < 0.05  # as far as a soft servo under this robot's weight gets

        await hold(transport, servos, goal, 0.2, watchdog_timeout=0.3)
        await asyncio.sleep(0.8)
        assert set((await modes(transport, servos)).values()) == {11}
        seen = await hold(transport, servos, goal, 0.1, watchdog_timeout=0.3)
        assert {v[R.MODE] for v in seen.values()} == {11}, "a position command must not end a timeout"
        await transport.cycle([s.make_stop() for s in servos])
        assert set((await modes(transport, servos)).values()) == {0}
        seen = await hold(transport, servos, goal, 0.2, watchdog_timeout=1.0)
        assert {v[R.MODE] for v in seen.values()} == {10}

    run(ports, story)


def test_diagnostic_stream_and_brake(twin):
    _, ports = twin

    async def story(transport, servos):
        stream = moteus.Stream(servos[2])
        kp = await stream.command(b"conf get servo.pid_position.kp", allow_any_response=True)
        assert float(kp) == pytest.approx(50.26548, abs=1e-4)
        await stream.command(b"conf set servo.pid_position.kp 40")
        kp = await stream.command(b"conf get servo.pid_position.kp", allow_any_response=True)
        assert float(kp) == 40
        with pytest.raises(moteus.CommandError):
            await stream.command(b"conf set no.such.thing 1")
        await servos[2].set_brake(query=True)
        assert (await servos[2].query()).values[moteus.Register.MODE] == 15
        extra = await servos[2].custom_query({0x101: moteus.INT32, 0x102: moteus.INT32})
        assert extra.values[0x102] == 5

    run(ports, story)


def test_control_lines_reach_the_wire(twin):
    process, ports = twin

    async def story(transport, servos):
        process.stdin.write('{"fault": "trip", "servo": 3, "code": 33}\nnonsense\n{"fault": "mute", "servo": 5}\n')
        process.stdin.flush()
        await asyncio.sleep(0.3)
        assert (await servos[2].query()).values[moteus.Register.FAULT] == 33
        assert sorted(await modes(transport, servos)) == [1, 2, 3, 4, 6, 7, 8]

    run(ports, story)
