"""A connection of the network door's: whose it is, how it alone is ended, and the memory that all of them hold."""

from __future__ import annotations

import os
import socket

import zmq


def user(frames: list[zmq.Frame]) -> str:
    """The public key with which the authenticator let the sender in, as text; empty when none did."""
    try:
        return str(frames[1].get("User-Id"))
    except zmq.ZMQError:
        return ""


def shut(frame: zmq.Frame) -> None:
    """End the connection by which the frame came, and no other: the library has no way to, and takes it for one that broke.

    Its number may be another's by now. Of this process that can be but another connection of the door's from the same machine,
    which comes back by itself.
    """
    try:
        address = str(frame.get("Peer-Address")).partition("%")[0]  # of one on our own link without the interface, as below
        family = socket.AF_INET6 if ":" in address else socket.AF_INET  # by the wrong one the address reads as another
        with socket.fromfd(int(frame.get(zmq.SRCFD)), family, socket.SOCK_STREAM) as line:
            if line.getpeername()[0] == address:
                line.shutdown(socket.SHUT_RDWR)
    except (OSError, IndexError, zmq.ZMQError):  # it has gone, or is no connection any more
        pass


def resident() -> int:
    """Bytes of memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
