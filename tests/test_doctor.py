"""The doctor: what is missing is named with the line that fixes it, also where nothing can be imported."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import threading
import time
import tty
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import cameracheck, config, doctor, findport, keyring, machine
from robotrl.calibration import store
from robotrl.drivers import moteus
from robotrl.drivers.identity import HOLDS, asked
from robotrl.drivers.tables import Width
from tests.nodes.armrig import ArmRig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def line():
    """A pseudo-terminal's near end: as good as a serial port."""
    near, far = pty.openpty()
    tty.setraw(near)
    name = os.ttyname(far)
    os.close(far)
    yield name
    os.close(near)


def records(tmp_path, serial="a1", boards=range(1, 9)):
    """A calibration and a commissioning record of minitaur `serial`, whose boards' serial numbers end so."""
    robot = replace(config.Robot(), serial=serial)
    ids = robot.servos.ids
    common = {"schema": 1, "robot": "minitaur", "kind": "minitaur", "serial": serial, "made": "now", "ids": ids}
    path = store.path_of(store.Calibration, robot, tmp_path)
    zeros = (0.0,) * 8
    store.write(store.Calibration(**common, sign=(1,) * 8, offset=zeros, pose=zeros, spread=zeros,
                                  identity=tuple(f"{i:024x}" for i in boards)), path)  # fmt: skip
    record = store.Commissioning(
        **common,
        calibration=store.digest(path),
        firmware=("1",) * 8,
        watchdog_s=0.1,
        trip_s=zeros,
        moved=zeros,
        step=0.1,
        seen="operator",
        stop_s=0.1,
        stop_rad=zeros,
    )
    store.write(record, store.path_of(store.Commissioning, robot, tmp_path))


def run_on(*ports: str, serial: str = "a1") -> config.Run:
    servos, imu, tracker = ports
    robot = config.Robot(
        serial=serial,
        servos=config.Servos(port=servos),
        imu=config.ImuPort(port=imu),
        tracker=config.TrackerPort(port=tracker),
    )
    return config.Run(robot=robot)


def answer(near: int, done: threading.Event) -> None:
    """Be eight servos whose boards' serial numbers end in their ids, at the far end of a line."""
    heard = b""
    while not done.is_set():
        time.sleep(0.002)
        try:
            heard += os.read(near, 4096) if select.select([near], [], [], 0.02)[0] else b""
        except OSError:  # nobody has the near end open
            continue
        *lines, heard = heard.split(b"\n")
        for line in lines:
            sent = moteus.parse_line(line.replace(b"can send ", b"rcv "))
            servo, host = sent.can_id & 0x7F, sent.can_id >> 8 & 0x7F
            frame = moteus.make_reply(0x101, Width.INT32, 1) + moteus.make_reply(0x120, Width.INT32, 0, 0, servo)
            os.write(near, b"OK\nrcv %04x %b\n" % (servo << 8 | host, frame.hex().encode()))


@pytest.fixture
def three_lines():
    pairs = [pty.openpty() for _ in range(3)]
    names = [os.ttyname(far) for _, far in pairs]
    for near, far in pairs:
        tty.setraw(near)
        os.close(far)
    done = threading.Event()
    servos = threading.Thread(target=answer, args=(pairs[0][0], done))
    servos.start()
    yield names
    done.set()
    servos.join()
    for near, _ in pairs:
        os.close(near)


def test_a_robot_that_lacks_nothing_may_start(tmp_path, three_lines):
    records(tmp_path)
    assert doctor.preflight(run_on(*three_lines), sim=False, records=tmp_path) == []


def test_ports_that_cannot_be_asked_for_want_of_a_package_are_a_row(tmp_path, three_lines, monkeypatch):
    records(tmp_path)
    monkeypatch.setitem(sys.modules, "robotrl.drivers.port", None)  # as where pyserial is broken
    (line,) = doctor.preflight(run_on(*three_lines), sim=False, records=tmp_path)
    assert line.startswith("servo boards: cannot be asked: ") and "launch/env.sh" in line


def test_servos_of_another_robot_on_the_port_are_told_by_their_boards(tmp_path, three_lines):
    records(tmp_path, boards=(1, 2, 99, 4, 5, 6, 7, 8))
    (line,) = doctor.preflight(run_on(*three_lines), sim=False, records=tmp_path)
    assert line.startswith(
        f"servo boards: {three_lines[0]}: servo 3 is {3:024x}, minitaur a1 was calibrated with {99:024x}: another robot's"
    )
    assert "plug in minitaur a1" in line and "\n" not in line


def test_servos_that_are_silent_are_named_before_anything_starts(tmp_path, three_lines, monkeypatch):
    monkeypatch.setattr(moteus, "make_reply", lambda *_: b"")
    records(tmp_path)
    (line,) = doctor.preflight(run_on(*three_lines), sim=False, records=tmp_path)
    assert line.startswith("servo boards: ") and "servo 1 does not say who it is; check its id, cable and power" in line


def test_what_is_to_be_done_about_a_board_is_said_before_what_else_holds(tmp_path, monkeypatch):
    rig = ArmRig("so101", tmp_path)
    robot, port = rig.run.robot, rig.twin.ports()["servos"]
    who = asked(port, robot.servos, rig.clock)
    robot = replace(robot, servos=replace(robot.servos, identity=who))
    monkeypatch.setattr("robotrl.calibration.store.calibrated", lambda *_: robot)
    monkeypatch.setattr("robotrl.drivers.port.SerialPort", lambda *_: port)
    assert doctor.board_row(robot).state == "ok"
    rig.twin.command({"fault": "mute", "servo": 3})
    row = doctor.board_row(robot)
    assert row.found == "servos: servo 3 does not say who it is" and row.fix == f"check its id, cable and power{HOLDS}"


def test_a_record_that_nobody_saw_does_not_let_a_robot_start(tmp_path, three_lines):
    records(tmp_path)
    path = tmp_path / "minitaur" / "a1.commissioning.json"
    path.write_text(path.read_text().replace("operator", "encoder"))
    (line,) = doctor.preflight(run_on(*three_lines), sim=False, records=tmp_path)
    assert line.startswith("commissioning record: ") and "nobody saw" in line


def test_a_robot_that_lacks_everything_is_told_all_of_it(tmp_path):
    missing = doctor.preflight(run_on("/dev/nowhere", "", str(tmp_path)), sim=False, records=tmp_path)
    text = "\n".join(missing)
    for says in (
        "servos port: no /dev/nowhere",
        "imu port: imu.port is empty",
        f"tracker port: {tmp_path} is no serial port",
        "calibration: ",
        "commissioning record: ",
    ):
        assert says in text
    assert len(missing) == 5
    assert all("python -m robotrl" in line and "\n" not in line for line in missing)


def test_the_twin_lacks_none_of_it(tmp_path):
    assert doctor.preflight(run_on("", "", ""), sim=True, records=tmp_path) == []


def test_a_package_that_is_not_installed_is_named_before_anything_starts(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", (("nonesuch", "nonesuch-dist", ""), ("pybullet", "pybullet", "the twin")))
    (missing,) = doctor.preflight(run_on("", "", ""), sim=True)
    assert missing.startswith("nonesuch-dist: not installed; set up:")


def test_another_robots_records_are_refused_and_both_are_named(tmp_path, three_lines):
    records(tmp_path, "a1")
    for suffix in (".json", ".commissioning.json"):
        (tmp_path / "minitaur" / f"b2{suffix}").write_bytes((tmp_path / "minitaur" / f"a1{suffix}").read_bytes())
    missing = doctor.preflight(run_on(*three_lines, serial="b2"), sim=False, records=tmp_path)
    assert len(missing) == 2
    assert all("'a1'" in line and "'b2'" in line for line in missing)


def test_a_robot_without_a_serial_is_told_to_get_one(tmp_path, three_lines):
    (missing,) = doctor.preflight(run_on(*three_lines, serial=""), sim=False, records=tmp_path)
    assert "robot serial" in missing and 'write serial = "..."' in missing


def test_one_port_for_two_devices_is_named(tmp_path, three_lines):
    records(tmp_path)
    one = three_lines[0]
    (missing,) = doctor.preflight(run_on(one, one, three_lines[2]), sim=False, records=tmp_path)
    assert "are the same device" in missing


@pytest.mark.parametrize("node", [(), ("-m", "robotrl.nodes.servos", "runs/x")])
def test_a_port_held_by_another_process_is_named_with_its_holder(line, tmp_path, node):
    """Of a run's own driver, which lowers the arm of a manager that died, "stop that program" would drop it."""
    code = "import os, sys, time; f = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print('open', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, line, *node], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        holder.stdout.readline()
        verdict = findport.judge(line, "servos.port")
        assert verdict.state == "missing" and (f"(pid {holder.pid})" in verdict.found) is not bool(node)
        assert (verdict.fix == "stop that program") is not bool(node)
        assert not node or (
            str(tmp_path / "runs" / "x") in verdict.found
            and "do not kill" in verdict.fix
            and f"kill -9 {holder.pid}" in verdict.fix
        )
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert findport.judge(line, "servos.port").state == "ok"


def test_a_port_locked_by_a_process_out_of_sight_is_named(line, tmp_path):
    mine = os.open(line, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(mine, fcntl.LOCK_EX)
        verdict = findport.judge(line, "servos.port", proc=tmp_path)
        assert verdict.state == "missing" and "locked by another process" in verdict.found
        assert "fuser" in verdict.fix
    finally:
        os.close(mine)


def test_a_port_without_permission_is_named_with_its_group(line, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(findport.grp, "getgrgid", lambda _: namedtuple("Group", "gr_name")("dialout"))
    monkeypatch.setattr(os, "stat", lambda _: namedtuple("Stat", "st_mode st_gid")(0o020660, 20))
    verdict = findport.judge(line, "servos.port")
    assert verdict.state == "missing" and "no permission" in verdict.found
    assert verdict.fix.startswith("sudo usermod -aG dialout")


@pytest.mark.parametrize(("ms", "state"), [("16", "warning"), ("1", "ok"), ("", "ok")])
def test_a_slow_adapter_is_a_warning(line, tmp_path, ms, state):
    device = tmp_path / "bus" / "usb-serial" / "devices" / os.path.basename(line)
    device.mkdir(parents=True)
    (device / "latency_timer").write_text(ms)
    verdict = findport.judge(line, "servos.port", sysfs=tmp_path)
    assert verdict.state == state
    assert (state == "warning") == ("latency_timer" in verdict.fix)


def test_a_file_that_is_no_terminal_is_named():
    assert "no terminal device" in findport.judge("/dev/zero", "servos.port").found


def test_a_package_that_imports_is_ok_with_its_version():
    row = doctor.try_package("msgspec", "msgspec", "")
    assert (row.state, row.found) == ("ok", doctor.version_of("msgspec"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ImportError('libGL.so.1: cannot open')", "libGL.so.1"),
        ("import nonesuch", "No module named 'nonesuch'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
        ("import sys; sys.exit(3)", "no reason given"),
    ],
)
def test_a_package_that_fails_or_crashes_is_a_row_with_its_fix(tmp_path, monkeypatch, body, says):
    (tmp_path / "broken.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    row = doctor.try_package("broken", "broken", "")
    assert row.state == "fail" and says in row.found and row.fix
    lesser = doctor.try_package("broken", "broken", "the plots")
    assert lesser.state == "warn" and "lost without it: the plots" in lesser.found


def test_a_right_that_is_refused_is_a_warning():
    import resource

    row = machine.right("real-time priority", "raise SystemExit(1)", resource.RLIMIT_RTPRIO, "rtprio 50")
    assert row.state == "warn" and row.found.startswith("refused") and "rtprio 50" in row.fix


def test_it_runs_with_every_import_failing(tmp_path):
    """No site-packages for the doctor, and an interpreter that fails for whatever it tries."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from robotrl import doctor; sys.executable = '/bin/false'\n"
    code += "sys.exit(doctor.main(['--json']))"
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code, str(ROOT)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])["rows"]}
    assert rows["robotrl"]["state"] == "ok" and "servos port" in rows
    last = done.stdout.splitlines()[-2]
    assert (
        last
        == f"first set up again: rm -rf .venv && bash launch/env.sh, then look again: {ROOT}/.venv/bin/python -m robotrl doctor"
    )
    assert f"{ROOT}/.venv/bin/python -m robotrl find-port" in rows["servos port"]["fix"]
    for _, distribution, loss in doctor.PACKAGES:
        assert rows[distribution]["state"] == ("warn" if loss else "fail")
        assert rows[distribution]["fix"]


def test_json_comes_last_and_the_exit_code_says_whether_anything_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PACKAGES", ())
    assert doctor.main(["--sim", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["ok"] and {row["state"] for row in said["rows"]} <= {"ok", "warn"}
    assert doctor.main(["--json", "--set", "robot.serial=x"]) == 2
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert all(row["fix"] for row in rows if row["state"] != "ok")


@pytest.mark.parametrize(("out", "judged"), [("here", "here"), ("none/of/these", "."), ("here/none", "here")])
def test_the_disk_is_judged_where_the_runs_are_made(monkeypatch, tmp_path, out, judged):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", ())
    asked: list[Path] = []
    monkeypatch.setattr(machine, "rows", lambda where: asked.append(where) or [])
    doctor.main(["--sim", "--out", out])
    assert [where.resolve() for where in asked] == [(tmp_path / judged).resolve()]


def test_a_network_without_keys_is_a_row_as_the_launch_refuses_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "PACKAGES", ())
    words = ["--sim", "--json", "--set", f'network.keys="{tmp_path / "keys"}"', "--set", 'network.listen="tcp://127.0.0.1:5555"']

    def row():
        code = doctor.main(words)
        (found,) = [r for r in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] if r["name"] == "network keys"]
        return code, found["state"], found["found"], found["fix"]

    code, state, found, fix = row()
    assert (code, state) == (2, "fail") and "no keys" in found and "keys new" in fix
    keyring.new(tmp_path / "keys", "laptop", "console")
    assert row() == (0, "ok", "laptop (console)", "")
    assert doctor.main(words[:2]) == 0 and "network" not in capsys.readouterr().out


def test_a_folder_too_long_for_the_sockets_is_a_row_as_the_launch_refuses_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "PACKAGES", ())
    monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{'x' * 90}")
    assert doctor.main(["--sim"]) == 2
    said = capsys.readouterr().out
    assert "fail  sockets" in said and "TMPDIR" in said and "fix: set a shorter one: TMPDIR=/tmp" in said


def test_a_wrong_run_file_is_a_row(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "PACKAGES", ())
    assert doctor.main([str(tmp_path / "none.toml"), "--sim"]) == 2
    assert "no config file" in capsys.readouterr().out


def devices(tmp_path, *names):
    (tmp_path / "serial" / "by-id").mkdir(parents=True, exist_ok=True)
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / "serial" / "by-id" / f"usb-{name}").symlink_to(Path("..") / ".." / name)
    return tmp_path


def test_ports_have_their_stable_names(tmp_path):
    dev = devices(tmp_path, "ttyUSB0")
    (dev / "ttyACM1").touch()
    (dev / "tty1").touch()
    assert [(Path(p.name).name, Path(p.device).name) for p in findport.ports(dev)] == [
        ("ttyACM1", "ttyACM1"),
        ("usb-ttyUSB0", "ttyUSB0"),
    ]


def test_the_port_that_is_unplugged_is_named(tmp_path, monkeypatch, capsys):
    dev = devices(tmp_path, "ttyUSB0", "ttyUSB1")
    monkeypatch.setattr(findport.time, "sleep", lambda _: (dev / "ttyUSB1").unlink())
    assert findport.main(["--dev", str(dev), "--json"]) == 0
    out = capsys.readouterr().out
    assert f'port = "{dev}/serial/by-id/usb-ttyUSB1"' in out
    assert [p["device"] for p in json.loads(out.splitlines()[-1])["unplugged"]] == [f"{dev}/ttyUSB1"]


def test_nothing_unplugged_and_no_port_at_all_are_said(tmp_path, capsys):
    assert findport.main(["--dev", str(tmp_path)]) == 2
    assert "no serial port" in capsys.readouterr().err
    dev = devices(tmp_path, "ttyUSB0")
    assert findport.main(["--dev", str(dev), "--timeout", "0"]) == 2
    assert "nothing was unplugged" in capsys.readouterr().err
    assert findport.main(["--dev", str(dev), "--list"]) == 0


def test_an_arm_is_asked_for_no_port_that_it_does_not_have_and_for_its_records(tmp_path):
    run = config.load(ROOT / "launch" / "reach.toml", ['robot.serial="mine"'])
    rows = doctor.robot_rows(run.robot, tmp_path)
    assert [(row.name, row.state) for row in rows] == [
        ("servos port", "fail"), ("lockout", "ok"), ("calibration", "fail"), ("commissioning record", "fail"),
    ]  # fmt: skip
    floor = config.load(ROOT / "launch" / "dkitty_walk.toml")
    assert [row.name for row in doctor.port_rows(floor.robot)] == ["servos port", "imu port", "tracker port"]


@pytest.mark.parametrize("text", [None, "{", '{"schema": 1}'])
def test_what_makes_a_record_is_a_command_that_reaches_this_robot(tmp_path, text):
    """Typed without a run file it addressed launch/walk.toml's robot, a Minitaur; without its folder, another record."""
    from robotrl.calibration import tool

    robot = replace(config.load(ROOT / "launch" / "arm.toml").robot, serial="x1")
    if text is not None:
        (tmp_path / "so101").mkdir()
        for suffix in (".json", ".commissioning.json"):
            (tmp_path / "so101" / f"x1{suffix}").write_text(text)
    rows = {row.name: row.fix for row in doctor.record_rows(robot, tmp_path)}
    for name, words in (("calibration", "calibrate homing "), ("commissioning record", "commission ")):
        _, found, rest = rows[name].partition(f"python -m robotrl {words}")
        assert found, rows[name]
        args = tool.parser(words, "").parse_args(rest.split())
        named = tool.robot_of(args)
        assert (named.name, named.serial, args.calibration) == ("so101", "x1", tmp_path)


def test_a_policy_that_sees_needs_its_cameras_in_the_robot_file():
    run = config.load(ROOT / "launch" / "reach_pixels.toml")
    rows = list(cameracheck.gaze_rows(run))
    assert [(row.name, row.state) for row in rows] == [("camera front", "fail"), ("camera side", "fail")]
    assert "[cameras.front]" in rows[0].fix and any(line.startswith("camera side: ") for line in doctor.preflight(run))
    there = dataclasses.replace(run.robot, cameras={"front": config.CameraPort(), "side": config.CameraPort()})
    assert not list(cameracheck.gaze_rows(dataclasses.replace(run, robot=there)))


def test_a_tracker_by_sight_needs_no_port_and_the_place_of_its_camera(tmp_path):
    from robotrl import viewpoint
    from robotrl.sim.tagcamera import view_of

    run = config.load(ROOT / "launch" / "walk_seen.toml")
    assert "tracker port" not in [row.name for row in doctor.port_rows(run.robot)]
    (missing,) = cameracheck.viewpoint_rows(run.robot, tmp_path)
    assert missing.state == "fail" and "calibrate viewpoint" in missing.fix
    viewpoint.write(view_of(run.twin.tripod, run.robot.seen_by), viewpoint.path_of(run.robot.seen_by, tmp_path))
    (there,) = cameracheck.viewpoint_rows(run.robot, tmp_path)
    assert there.state == "ok"
    assert not list(cameracheck.viewpoint_rows(config.load(ROOT / "launch" / "walk.toml").robot, tmp_path))
