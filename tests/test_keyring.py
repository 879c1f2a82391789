"""Keys and `robotrl keys`: files that nobody else can read, and a door that stays shut without them."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import zmq

from robotrl import cli, config, keyring
from robotrl.keyring import KeyringError

WALK = "launch/walk.toml"


@pytest.fixture
def folder(tmp_path):
    keyring.new(tmp_path / "keys", "laptop", "console")
    return tmp_path / "keys"


def test_a_pair_opens_nothing_but_its_own_robot(folder):
    file = keyring.new(folder, "screen", "viewer")
    key, ring = keyring.read(file), keyring.load(folder)
    assert {(k.name, k.role) for k in ring.authorised.values()} == {("laptop", "console"), ("screen", "viewer")}
    assert key.server == ring.server.public and zmq.curve_public(key.secret.encode()).decode() == key.public
    assert all(not k.secret for k in ring.authorised.values())


def test_files_and_folders_are_the_users_alone(tmp_path):
    before = os.umask(0)
    try:
        keyring.new(tmp_path / "a" / "keys", "laptop", "console")
    finally:
        os.umask(before)
    modes = {str(p.relative_to(tmp_path / "a")): stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").rglob("*")}
    assert modes == {
        "keys": 0o700, "keys/authorised": 0o700, "keys/server.json": 0o600, "keys/laptop.secret.json": 0o600,
        "keys/authorised/laptop.json": 0o600,
    }  # fmt: skip


@pytest.mark.parametrize("file", ["server.json", "authorised/laptop.json", "authorised"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_what_others_can_read_or_change_is_refused(folder, file, mode):
    (folder / file).chmod(mode | (0o700 if file == "authorised" else 0))
    with pytest.raises(KeyringError, match="others can read or change it"):
        keyring.load(folder)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o720, 0o702, 0o711])
def test_a_folder_of_keys_that_others_may_enter_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(KeyringError, match=rf"{folder}: others can read or change it \(mode {mode:04o}\); chmod 0700 it"):
        keyring.load(folder)


def test_a_key_is_never_seen_half_written(folder, monkeypatch):
    """Who looks at any moment, as the gateway does, finds the keys that were there, and then one more."""
    seen = []

    def look(what):
        real = getattr(os, what)

        def then(*args, **more):
            seen.append(sorted(key.name for key in keyring.listed(folder)))
            out = real(*args, **more)
            seen.append(sorted(key.name for key in keyring.listed(folder)))
            return out

        monkeypatch.setattr(os, what, then)

    for what in ("open", "fsync", "link"):
        look(what)
    keyring.new(folder, "screen", "viewer")
    assert ["laptop"] in seen and seen[-1] == ["laptop", "screen"] == max(seen, key=len)
    assert all(now in (["laptop"], ["laptop", "screen"]) for now in seen)


def test_a_key_is_on_disk_before_it_has_its_name(folder, monkeypatch):
    did = []
    for what in ("fsync", "link"):
        real = getattr(os, what)
        monkeypatch.setattr(os, what, lambda *args, what=what, real=real: did.append(what) or real(*args))
    keyring.write(folder / "authorised" / "screen.json", keyring.Key("screen", "viewer", keyring.pair()[0]))
    assert did == ["fsync", "link", "fsync"]


@pytest.mark.parametrize("there", ["a key", "a link", "a broken link"])
def test_a_key_that_is_there_is_not_written_over_and_nothing_is_left_beside_it(folder, tmp_path, there):
    path = folder / "screen.secret.json"
    if there == "a key":
        path.write_text("mine")
    else:
        path.symlink_to(folder / "server.json" if there == "a link" else tmp_path / "nothing")
    before = sorted(folder.rglob("*")), (folder / "server.json").read_bytes()
    with pytest.raises(KeyringError, match="there is such a key"):
        keyring.new(folder, "screen", "viewer")
    assert (sorted(folder.rglob("*")), (folder / "server.json").read_bytes()) == before
    assert not (tmp_path / "nothing").exists()


def test_a_disk_that_is_full_leaves_no_half_a_key(folder, monkeypatch):
    before = sorted(folder.rglob("*"))

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyringError, match="No space"):
        keyring.new(folder, "screen", "viewer")
    assert sorted(folder.rglob("*")) == before


def test_a_link_and_another_users_file_are_refused(folder, tmp_path, monkeypatch):
    (folder / "server.json").rename(tmp_path / "elsewhere")
    (folder / "server.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyringError, match="is a link"):  # a chmod would change nothing
        keyring.load(folder)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(KeyringError, match=f"belongs to user {mine}, and this is user 4711; chown it"):
        keyring.read(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "authorised" / "laptop.json").unlink(), "nobody is authorised"),
        (lambda folder: (folder / "server.json").unlink(), "no such key"),
        (lambda folder: (folder / "server.json").write_text("{"), "no key file"),
        (lambda folder: (folder / "server.json").write_bytes((folder / "authorised" / "laptop.json").read_bytes()), "no secret"),
        (lambda folder: rewrite(folder, public="short"), "no key file"),
        (lambda folder: rewrite(folder, role="king"), "no role 'king'"),
        (lambda folder: rewrite(folder, more=1), "no key file"),
    ],
)
def test_a_broken_keyring_is_one_line(folder, spoil, says):
    spoil(folder)
    with pytest.raises(KeyringError, match=says) as found:
        keyring.load(folder)
    assert "\n" not in str(found.value)


def rewrite(folder, **fields):
    path = folder / "authorised" / "laptop.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", ["laptop", "guest"])
def test_a_copied_key_file_is_one_line(folder, name):
    """With the name that was in it, or the key: whose role would it be?"""
    there = folder / "authorised"
    public = keyring.pair()[0] if name == "laptop" else keyring.read(there / "laptop.json").public
    keyring.write(there / "guest.json", keyring.Key(name, "viewer", public))
    for look in (keyring.listed, keyring.load):
        with pytest.raises(KeyringError, match=r"(guest|laptop)\.json: is the key of '(guest|laptop)'.*remove") as found:
            look(folder)
        assert "\n" not in str(found.value)


def test_an_old_library_may_not_listen(folder, monkeypatch):
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 2))
    with pytest.raises(KeyringError, match=r"libzmq 4\.3\.2: a network needs 4\.3\.3"):
        keyring.load(folder)


def test_a_name_is_not_given_twice_and_leads_nowhere_else(folder):
    for name in ("laptop", "../laptop", "", "a b"):
        with pytest.raises(KeyringError):
            keyring.new(folder, name, "viewer")
    assert [key.role for key in keyring.listed(folder)] == ["console"]


@pytest.mark.parametrize("full", [False, True])
def test_a_key_whose_public_half_cannot_be_written_leaves_no_secret_one(folder, monkeypatch, full):
    """A file that lets nobody in would be taken to the other machine, and its name be taken here."""
    keyring.new(folder, "tablet", "console").unlink()
    link = os.link

    def refusing(aside, path):
        if path.parent.name == "authorised":
            raise OSError(errno.ENOSPC, "No space left on device")
        link(aside, path)

    with monkeypatch.context() as patch:
        if full:
            keyring.revoke(folder, "tablet")
            patch.setattr(os, "link", refusing)
        with pytest.raises(KeyringError, match="No space left" if full else "there is such a key"):
            keyring.new(folder, "tablet", "viewer")
    assert not (folder / "tablet.secret.json").exists()
    if not full:
        keyring.revoke(folder, "tablet")
    assert keyring.read(keyring.new(folder, "tablet", "viewer")).role == "viewer"


def test_the_command_makes_and_lists(tmp_path, capfd):
    keys = str(tmp_path / "keys")
    assert cli.main(["keys", "new", "laptop", "--role", "console", "--keys", keys, "--json"]) == 0
    made = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert made["role"] == "console" and keyring.read(tmp_path / "keys" / "laptop.secret.json").public == made["public"]
    assert cli.main(["keys", "list", "--keys", keys, "--json"]) == 0
    said = capfd.readouterr().out
    assert json.loads(said.splitlines()[-1]) == {"keys": [{"name": "laptop", "role": "console", "public": made["public"]}]}
    assert keyring.read(tmp_path / "keys" / "laptop.secret.json").secret not in said
    assert cli.main(["keys", "new", "laptop", "--role", "viewer", "--keys", keys]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:5555", "tcp://0.0.0.0:5555"])
def test_a_run_that_asks_for_a_network_without_keys_is_refused_before_anything_starts(tmp_path, capfd, listen):
    words = ["run", WALK, "--sim", "--out", str(tmp_path / "runs"), "--set", f'network.listen="{listen}"']
    assert cli.main([*words, "--set", f'network.keys="{tmp_path / "none"}"']) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "nothing may listen on a network" in line and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "listen", ["5555", "tcp://*:5555", "udp://127.0.0.1:1", "ipc:///tmp/x", "tcp://robot:5555", "tcp://1.2.3.4:"]
)
def test_only_a_numeric_tcp_address_is_one(listen):
    with pytest.raises(config.ConfigError, match=r"network\.listen must be like"):
        config.load(config.Path(WALK), [f'network.listen="{listen}"'])


def test_a_key_is_taken_away_by_its_name_alone(folder, tmp_path, capfd):
    server = folder / "server.json"
    for name in ("../server", "nobody", "", "a/b"):
        assert cli.main(["keys", "revoke", name, "--keys", str(folder)]) == 2 and server.exists()
    assert "nobody" in capfd.readouterr().err
    (known,) = keyring.listed(folder)
    assert cli.main(["keys", "revoke", known.name, "--keys", str(folder)]) == 0
    assert keyring.listed(folder) == [] and server.exists()


def test_a_key_that_is_taken_away_while_the_folder_is_read_keeps_nobody_else_out(folder, monkeypatch):
    keyring.new(folder, "other", "viewer")
    names = os.listdir

    def revoked(path):
        found = names(path)
        keyring.revoke(folder, "other")
        return found

    before = [key.name for key in keyring.listed(folder)]
    monkeypatch.setattr(os, "listdir", revoked)
    assert [key.name for key in keyring.listed(folder)] == [name for name in before if name != "other"] != before


@pytest.mark.parametrize("call", ["lstat", "listdir"])
@pytest.mark.parametrize("use", [keyring.load, keyring.listed])
def test_a_folder_that_is_shut_is_one_line(folder, monkeypatch, call, use):
    """As it is to who is not root: `chmod 000` on the keys' folder, or on the one in it."""
    real = getattr(os, call)

    def shut(path):
        if Path(path).name == "authorised":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(os, call, shut)
    with pytest.raises(KeyringError, match=r"authorised: Permission denied; .*0700") as error:
        use(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("call", "words"), [("open", "new tablet --role viewer"), ("unlink", "revoke laptop")])
def test_a_folder_in_which_nothing_can_be_changed_is_one_line(folder, monkeypatch, capsys, call, words):
    """As it is to who is not root: they ended in a traceback."""

    def shut(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, shut)
        assert cli.main(["keys", *words.split(), "--keys", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{folder}: Permission denied; " in said and "0700" in said
    assert [key.name for key in keyring.listed(folder)] == ["laptop"]


@pytest.mark.parametrize("below", [".", "keys"])
def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path, capsys, below):
    (tmp_path / "file").write_text("")
    assert cli.main(["keys", "new", "tablet", "--role", "viewer", "--keys", str(tmp_path / "file" / below)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
