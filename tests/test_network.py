"""A run with a network, on the twin: it listens where it was told to and nowhere else, and a viewer's stop stops the robot."""

from __future__ import annotations

import signal
import socket

import pytest

from bench import attacks
from bench.wall_clock import LIGHT, Live
from robotrl import keyring
from robotrl.clock import WallClock
from robotrl.messages import Operator
from robotrl.remote import Remote


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def live(tmp_path):
    keyring.new(tmp_path / "keys", "screen", "viewer")
    run = Live(tmp_path, *LIGHT, f'network.keys="{tmp_path / "keys"}"', f'network.listen="tcp://127.0.0.1:{free_port()}"')
    yield run
    run.close()


def test_a_stop_from_afar_under_a_flood_of_connections(live, tmp_path, listeners):
    live.reach("RUN")
    address = live.said().partition("listening at ")[2].partition(" for ")[0]
    (where,) = listeners(live.process.pid)
    assert where == f"tcp 0100007F:{attacks.target(address)[1]:04X}"
    viewer = Remote(address, keyring.read(tmp_path / "keys" / "screen.secret.json"), WallClock())
    held = attacks.hold_connections(address, 200)
    try:
        guard, press = viewer.subscriber("guard"), viewer.publisher("operator")
        live.wait(lambda: guard.latest() is not None, 20)
        press.send(Operator(command="clear", press=1, nonce=guard.latest().nonce))

        def stopped():
            press.send(Operator(command="stop", press=2))
            return "operator_stop" in live.log("guard")  # on a starved machine a servo's cause may have come first

        live.wait(stopped, 60)
        live.wait(lambda: "screen (viewer): stop" in live.log("gateway"), 20)  # it passes a stop on before it writes of it
        assert "(viewer): clear" not in live.log("gateway")
        assert "clear (viewer)" not in live.log("guard")
    finally:
        viewer.close()
        for plain in held:
            plain.close()
    assert live.end(signal.SIGINT) == 0 and not listeners(live.process.pid)
