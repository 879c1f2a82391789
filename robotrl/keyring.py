"""The keys of the network door: who may come in, and as what. CURVE (elliptic-curve) key pairs, one JSON file each.

    KEYS/server.json              this robot's own pair
    KEYS/authorised/NAME.json     who may come in: public key and role
    KEYS/NAME.secret.json         to be taken to the other machine, and removed here

All are files of mode 0600 in directories of mode 0700, of the user who runs the robot; others are refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from robotrl.complaint import Complaint, command
from robotrl.roles import ROLES

SAFE = (4, 3, 3)  # of libzmq: before it CVE-2019-13132 and CVE-2020-15166, both without a key


class KeyringError(Complaint):
    """What is wrong with a key, which file, and what to do; one line."""


class NoKey(KeyringError):
    """There is no such file: none was made, or it was taken away."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as its file holds it. `public`, `secret`, `server`: Z85, 40 characters, or empty where the file has no need of it."""

    name: str
    role: str
    public: str
    secret: str = ""
    server: str = ""  # the robot's public key, in a file that is taken to another machine


@dataclass(frozen=True)
class Keyring:
    """The robot's own pair, and those who may come in by their public key (32 bytes)."""

    server: Key
    authorised: dict[bytes, Key]


def library() -> None:
    """KeyringError when this libzmq cannot be let onto a network."""
    version = zmq.zmq_version_info()
    if version < SAFE or not zmq.has("curve"):
        found = ".".join(map(str, version))
        raise KeyringError(f"libzmq {found}: a network needs 4.3.3 or later with CURVE; install a newer pyzmq")


def load(directory: Path) -> Keyring:
    """What the door needs; KeyringError when anything is missing, broken, or open to others."""
    library()
    make = f"make one: {command('keys new NAME --role console')} --keys {directory}"
    try:
        guarded(directory, 0o077)
    except NoKey:
        raise KeyringError(f"{directory}: no keys, so nothing may listen on a network; {make}") from None
    server = read(directory / "server.json")
    if not server.secret:
        raise KeyringError(f"{directory / 'server.json'}: holds no secret; remove it and {make}")
    known = listed(directory)
    if not known:
        raise KeyringError(f"{directory / 'authorised'}: nobody is authorised, so nothing may listen on a network; {make}")
    return Keyring(server, authorised(known))


def authorised(known: list[Key]) -> dict[bytes, Key]:
    """By public key, as the authenticator meets them."""
    return {z85.decode(key.public): key for key in known}


def revoke(directory: Path, name: str) -> None:
    """Who has this key may no longer come in; a run that listens hears of it within seconds. KeyringError when there is none."""
    named(name)
    with _changing(directory):
        try:
            (directory / "authorised" / f"{name}.json").unlink()
        except FileNotFoundError:
            raise KeyringError(f"{directory / 'authorised'}: no key {name!r}; see {command('keys list')}") from None


def listed(directory: Path) -> list[Key]:
    """Who may come in, by name."""
    folder = directory / "authorised"
    try:
        guarded(folder, 0o077)
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except NoKey:
        return []
    except OSError as error:
        raise KeyringError(f"{folder}: {error.strerror}; it must be a folder of mode 0700") from None
    keys: dict[str, Key] = {}  # by the public key
    for path in (folder / name for name in names):
        try:
            key = read(path)
        except NoKey:  # taken away since the folder was read: of the others' files that says nothing
            continue
        if key.role not in ROLES:
            raise KeyringError(f"{path}: no role {key.role!r}; known: {', '.join(ROLES)}")
        if key.name != path.stem:  # a copy: two of one name would be one peer, and by whose role?
            raise KeyringError(f"{path}: is the key of {key.name!r}; remove it and make the key anew")
        if (other := keys.setdefault(key.public, key)) is not key:
            raise KeyringError(f"{path}: is the key of {other.name!r} once more; remove one of the two")
    return list(keys.values())


def new(directory: Path, name: str, role: str) -> Path:
    """A new pair: its public half is authorised, the returned file goes to the other machine. The robot's own pair as needed."""
    if role not in ROLES:
        raise KeyringError(f"no role {role!r}; known: {', '.join(ROLES)}")
    named(name)
    folder, file = directory / "authorised", directory / f"{name}.secret.json"
    with _changing(directory):
        for path in (directory, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            guarded(path, 0o077)
        if not (directory / "server.json").exists():
            public, secret = pair()
            write(directory / "server.json", Key("server", "server", public, secret))
        server = read(directory / "server.json")
        public, secret = pair()
        write(file, Key(name, role, public, secret, server.public))
        try:
            write(folder / f"{name}.json", Key(name, role, public))
        except BaseException:  # that name is authorised already, or the disk is full: half a pair lets nobody in
            file.unlink()
            raise
    return file


@contextlib.contextmanager
def _changing(directory: Path) -> Iterator[None]:
    """Around what changes files there: KeyringError for what the system refuses."""
    try:
        yield
    except OSError as error:
        fix = "it and authorised in it must be folders of yours (chmod 0700), on a disk with room"
        raise KeyringError(f"{directory}: {error.strerror}; {fix}") from None


def named(name: str) -> None:
    """KeyringError unless it is a file's name that leads nowhere else."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise KeyringError(f"{name!r} names a file: lower-case letters, digits and '-' alone")


def pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def write(path: Path, key: Key) -> None:
    """A new file that nobody else can read; KeyringError when there is one. It has its name once it is whole: a gateway that
    looks meanwhile would believe no key beside half of one."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")  # of mode 0600; no *.json
    try:
        with open(handle, "wb") as file:
            file.write(msgspec.json.encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)  # unlike a rename it takes no other file's place
    except FileExistsError:
        raise KeyringError(f"{path}: there is such a key; choose another name, or remove it first") from None
    finally:
        os.unlink(aside)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> Key:
    """A key file; KeyringError when it is missing, open to others, or holds something else."""
    guarded(path, 0o077)
    try:
        key = msgspec.json.decode(path.read_bytes(), type=Key)
        for text in (key.public, key.secret, key.server):
            if text and len(z85.decode(text)) != 32:
                raise ValueError("a key has 40 characters")
        if not key.public:
            raise ValueError("no public key")
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, KeyError, struct.error) as error:  # the last: five of its characters are too great a number
        raise KeyringError(f"{path}: no key file ({error}); remove it and make the key anew") from None
    return key


def guarded(path: Path, closed: int) -> None:
    """KeyringError unless `path` is this user's, no link, and no `closed` permission bit is set; NoKey: it is missing."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise KeyringError(f"{path}: {error.strerror}; the folders above it must be yours to enter (chmod 0700)") from None
    if stat.S_ISLNK(found.st_mode):
        raise KeyringError(f"{path}: is a link, and may lead elsewhere tomorrow; put what it leads to in its place")
    if found.st_uid != os.geteuid():
        raise KeyringError(f"{path}: belongs to user {found.st_uid}, and this is user {os.geteuid()}; chown it")
    if found.st_mode & closed:
        mode = "0700" if stat.S_ISDIR(found.st_mode) else "0600"
        raise KeyringError(f"{path}: others can read or change it (mode {stat.S_IMODE(found.st_mode):04o}); chmod {mode} it")


def _missing(path: Path) -> NoKey:
    return NoKey(f"{path}: no such key; make one: {command('keys new NAME --role console')}")
