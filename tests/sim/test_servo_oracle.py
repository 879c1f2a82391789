"""The makers' own SDKs, unmodified, against the twin process on its pty."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 3000  # what both SDKs give an adapter's timer; a busy machine is no fault of the servos
DKITTY = [10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42]
SO101 = [1, 2, 3, 4, 5, 6]


def serve(robot):
    """The twin as anyone would start it; ends with the end of its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "robotrl", "twin", "--robot", robot, "--until-eof"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line, f"the twin ended with {process.wait()}: {process.stderr.read()}"
    yield process, json.loads(line)["servos"]
    assert process.poll() is None, f"the twin died with {process.returncode}"
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stdout.read() == "", "more than one line on standard output"
    assert "servos; " in process.stderr.read(), "it must say what it is not"
    process.stdout.close()
    process.stderr.close()


def sdk(name, monkeypatch):
    module = pytest.importorskip(name, reason=f"{name} is not installed: pip install 'robotrl[oracle]'")
    monkeypatch.setattr(importlib.import_module(f"{name}.port_handler"), "LATENCY_TIMER", PATIENCE_MS)
    return module


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def dynamixel(monkeypatch_module):
    module = sdk("dynamixel_sdk", monkeypatch_module)
    for process, path in serve("dkitty"):
        port = module.PortHandler(path)
        assert port.openPort() and port.setBaudRate(1_000_000)
        yield module, port, module.PacketHandler(2.0), process
        port.closePort()


@pytest.fixture(scope="module")
def feetech(monkeypatch_module):
    module = sdk("scservo_sdk", monkeypatch_module)
    for process, path in serve("so101"):
        port = module.PortHandler(path)
        assert port.openPort() and port.setBaudRate(1_000_000)
        yield module, port, module.PacketHandler(0), process
        port.closePort()


def until(question, wanted):
    """Ask again until the answer is the wanted one; the last answer if it never is."""
    end = time.monotonic() + 30
    while (answer := question()) != wanted and time.monotonic() < end:
        pass
    return answer


def test_dynamixel_scan(dynamixel):
    _, port, host, _ = dynamixel
    found, result = until(lambda: host.broadcastPing(port), ({i: [1020, 48] for i in DKITTY}, 0))
    assert result == 0 and found == {i: [1020, 48] for i in DKITTY}
    for servo in DKITTY:
        assert host.ping(port, servo) == (1020, 0, 0)


def test_dynamixel_reads_and_writes_of_every_size(dynamixel):
    _, port, host, _ = dynamixel
    assert host.write1ByteTxRx(port, 10, 65, 1) == (0, 0) and host.read1ByteTxRx(port, 10, 65) == (1, 0, 0)
    assert host.write2ByteTxRx(port, 10, 84, 750) == (0, 0) and host.read2ByteTxRx(port, 10, 84) == (750, 0, 0)
    assert host.write4ByteTxRx(port, 10, 112, 4464) == (0, 0)
    assert host.read4ByteTxRx(port, 10, 112) == (4464, 0, 0)
    data, result, error = host.readTxRx(port, 10, 0, 147)
    assert (len(data), result, error) == (147, 0, 0) and data[:2] == [0xFC, 3] and data[7] == 10
    assert host.write4ByteTxRx(port, 10, 116, 5000) == (0, 6) and host.write1ByteTxRx(port, 10, 0, 5) == (0, 7)
    assert host.regWriteTxRx(port, 10, 65, 1, [0]) == (0, 0) and host.read1ByteTxRx(port, 10, 65) == (1, 0, 0)
    # Said to all: this SDK waits for no answer to it, and would talk into that of a single servo.
    assert host.action(port, 0xFE) == 0 and host.read1ByteTxRx(port, 10, 65) == (0, 0, 0)
    stuffed = [0xFF, 0xFF, 0xFD, 0x00]
    assert host.writeTxRx(port, 10, 224, 4, stuffed) == (0, 0) and host.readTxRx(port, 10, 224, 4) == (stuffed, 0, 0)
    assert host.clearMultiTurn(port, 10) == (0, 0)


def test_dynamixel_sync_and_bulk_fast_and_not(dynamixel):
    sdk, port, host, _ = dynamixel
    write = sdk.GroupSyncWrite(port, host, 84, 2)
    read = sdk.GroupSyncRead(port, host, 84, 2)
    for servo in DKITTY:
        assert write.addParam(servo, [servo, 1]) and read.addParam(servo)
    assert write.txPacket() == 0
    for ask in (read.txRxPacket, read.fastSyncRead):
        assert ask() == 0
        assert [read.getData(servo, 84, 2) for servo in DKITTY] == [256 + servo for servo in DKITTY]
    bulk, back = sdk.GroupBulkWrite(port, host), sdk.GroupBulkRead(port, host)
    assert bulk.addParam(10, 65, 1, [1]) and bulk.addParam(20, 84, 2, [7, 0]) and bulk.addParam(42, 112, 4, [1, 2, 0, 0])
    assert bulk.txPacket() == 0
    assert back.addParam(10, 65, 1) and back.addParam(20, 84, 2) and back.addParam(42, 112, 4)
    for ask in (back.txRxPacket, back.fastBulkRead):
        assert ask() == 0
        assert [back.getData(10, 65, 1), back.getData(20, 84, 2), back.getData(42, 112, 4)] == [1, 7, 513]


def test_dynamixel_moves_reboots_and_can_be_muted(dynamixel):
    sdk, port, host, twin = dynamixel
    assert host.write1ByteTxRx(port, 11, 64, 1) == (0, 0) and host.write4ByteTxRx(port, 11, 116, 2300) == (0, 0)
    assert until(lambda: abs(host.read4ByteTxRx(port, 11, 132)[0] - 2300) < 12, True)
    assert host.write1ByteTxRx(port, 11, 7, 9) == (0, 7), "memory is locked while torque is on"
    assert host.reboot(port, 11) == (0, 0)
    with pytest.MonkeyPatch.context() as patch:  # nobody answers for 0.4 s
        patch.setattr(sdk.port_handler, "LATENCY_TIMER", 50)
        assert host.ping(port, 11)[1] == sdk.COMM_RX_TIMEOUT
        assert until(lambda: host.ping(port, 11)[1], 0) == 0
        time.sleep(0.1)
        port.ser.reset_input_buffer()
    assert host.read1ByteTxRx(port, 11, 64) == (0, 0, 0)
    twin.stdin.write('{"fault": "trip", "servo": 12, "bits": 32}\nnonsense\n')
    twin.stdin.flush()
    assert until(lambda: host.read1ByteTxRx(port, 12, 70), (32, 0, 128)) == (32, 0, 128)
    assert port.setBaudRate(57_600)
    port.setPacketTimeoutMillis(1)
    assert host.txPacket(port, [0, 0, 0, 0, 11, 3, 0, 1, 0, 0]) == 0
    port.is_using = False
    time.sleep(0.2)
    assert port.getBytesAvailable() == 0, "nobody is at this speed"
    assert port.setBaudRate(1_000_000) and host.ping(port, 11) == (1020, 0, 0)


def test_feetech_scan_reads_and_writes(feetech):
    _, port, host, _ = feetech
    for servo in SO101:
        assert host.ping(port, servo) == (777, 0, 0)
    assert host.write1ByteTxRx(port, 1, 41, 50) == (0, 0) and host.read1ByteTxRx(port, 1, 41) == (50, 0, 0)
    assert host.write2ByteTxRx(port, 1, 46, 1500) == (0, 0) and host.read2ByteTxRx(port, 1, 46) == (1500, 0, 0)
    assert host.write4ByteTxRx(port, 1, 44, 2000 << 16 | 7) == (0, 0)
    assert host.read4ByteTxRx(port, 1, 44) == (2000 << 16 | 7, 0, 0)
    data, result, error = host.readTxRx(port, 1, 0, 71)
    assert (len(data), result, error) == (71, 0, 0) and data[5] == 1
    assert host.regWriteTxRx(port, 1, 41, 1, [60]) == (0, 0) and host.read1ByteTxRx(port, 1, 41) == (50, 0, 0)
    assert host.action(port, 1) == 0 and host.read1ByteTxRx(port, 1, 41) == (60, 0, 0)


def test_feetech_sync_and_motion(feetech):
    sdk, port, host, _ = feetech
    on, goal = sdk.GroupSyncWrite(port, host, 40, 1), sdk.GroupSyncWrite(port, host, 41, 7)
    read = sdk.GroupSyncRead(port, host, 56, 15)
    for servo in SO101:
        assert on.addParam(servo, [1]) and read.addParam(servo)
        assert goal.addParam(servo, [0, 0x34, 0x08, 0, 0, 0, 0])  # 2100, as fast as it goes
    assert on.txPacket() == 0 and goal.txPacket() == 0

    def there():
        assert read.txRxPacket() == 0
        return [abs(read.getData(servo, 56, 2) - 2100) < 12 for servo in SO101]

    assert until(there, [True] * 6) == [True] * 6
    assert [read.getData(servo, 62, 1) for servo in SO101] == [120] * 6  # 12.0 V
