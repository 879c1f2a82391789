"""Merge the links that fixed joints weld together: the same rigid bodies in fewer links step faster.

PyBullet's own merging loses the parent's centre of mass; here mass, centre and inertia are composed exactly.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def merged(path: Path) -> str:
    """The URDF at `path` as text, fixed joints gone, mesh paths absolute. Raises ValueError if it is none."""
    root = ElementTree.parse(path).getroot()
    links = {str(link.get("name")): link for link in root.iter("link")}
    if not links:
        raise ValueError(f"{path}: no link in it; name a URDF of pybullet_data")
    for mesh in root.iter("mesh"):
        mesh.set("filename", str((path.parent / str(mesh.get("filename"))).resolve()))
    for joint in [j for j in root.findall("joint") if j.get("type") == "fixed"]:
        parent, child = _ends(joint)
        place = _origin(joint)
        _weld(links[parent], links[child], place)
        for other in root.findall("joint"):
            end = other.find("parent")
            if end is not None and end.get("link") == child:
                end.set("link", parent)
                _put(other, place @ _origin(other))
        root.remove(joint)
        root.remove(links.pop(child))
    return ElementTree.tostring(root, encoding="unicode")


def _weld(parent: Element, child: Element, place: Array) -> None:
    """Move all of `child` into `parent`; `place` (4, 4) is the child in the parent."""
    bodies = [_inertial(parent, np.eye(4)), _inertial(child, place)]
    mass = sum(m for m, _, _ in bodies)
    centre = np.sum([m * c for m, c, _ in bodies], axis=0) / mass
    about = np.zeros((3, 3))
    for m, c, inertia in bodies:
        r = c - centre
        about += inertia + m * ((r @ r) * np.eye(3) - np.outer(r, r))  # parallel axes
    for part in [e for e in child if e.tag in ("visual", "collision")]:
        _put(part, place @ _origin(part))
        parent.append(part)
    _write_inertial(parent, mass, centre, about)


def _inertial(link: Element, place: Array) -> tuple[float, Array, Array]:
    """Mass, centre and inertia tensor about it, seen from `place`'s outside."""
    inertial = link.find("inertial")
    if inertial is None:
        return 0.0, np.zeros(3), np.zeros((3, 3))
    mass, tensor = inertial.find("mass"), inertial.find("inertia")
    assert mass is not None and tensor is not None, f"link {link.get('name')}: inertial without mass or inertia"
    v = {k: float(tensor.get(k, 0.0)) for k in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")}
    matrix = np.array([[v["ixx"], v["ixy"], v["ixz"]], [v["ixy"], v["iyy"], v["iyz"]], [v["ixz"], v["iyz"], v["izz"]]])
    at = place @ _origin(inertial)
    return float(mass.get("value", 0.0)), at[:3, 3], at[:3, :3] @ matrix @ at[:3, :3].T


def _write_inertial(link: Element, mass: float, centre: Array, tensor: Array) -> None:
    """Inertia off the axes is written as principal moments in a turned frame, which PyBullet reads exactly."""
    moments, axes = np.linalg.eigh(tensor)
    order = [int(np.argmax(np.abs(axes[k]))) for k in range(3)]  # the axis nearest to x, y, z
    if sorted(order) != [0, 1, 2]:
        order = [0, 1, 2]
    moments, axes = moments[order], axes[:, order] * np.sign(np.diag(axes[:, order]) + 1e-300)
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    if (old := link.find("inertial")) is not None:
        link.remove(old)
    inertial = ElementTree.SubElement(link, "inertial")
    ElementTree.SubElement(inertial, "mass", value=repr(float(mass)))
    values = dict(zip(("ixx", "iyy", "izz"), (repr(float(m)) for m in moments), strict=True))
    ElementTree.SubElement(inertial, "inertia", {**values, "ixy": "0", "ixz": "0", "iyz": "0"})
    at = np.eye(4)
    at[:3, :3], at[:3, 3] = axes, centre
    _put(inertial, at)


def _ends(joint: Element) -> tuple[str, str]:
    parent, child = joint.find("parent"), joint.find("child")
    assert parent is not None and child is not None, f"joint {joint.get('name')} without parent or child"
    return str(parent.get("link")), str(child.get("link"))


def _origin(element: Element) -> Array:
    """An element's <origin> as a (4, 4) transform."""
    origin = element.find("origin")
    out = np.eye(4)
    if origin is None:
        return out
    out[:3, 3] = [float(x) for x in origin.get("xyz", "0 0 0").split()]
    r, p, y = (float(x) for x in origin.get("rpy", "0 0 0").split())
    cr, sr, cp, sp, cy, sy = math.cos(r), math.sin(r), math.cos(p), math.sin(p), math.cos(y), math.sin(y)
    out[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return out


def _put(element: Element, at: Array) -> None:
    origin = element.find("origin")
    if origin is None:
        origin = ElementTree.SubElement(element, "origin")
    m = at[:3, :3]
    pitch = math.asin(max(-1.0, min(1.0, -m[2, 0])))
    rpy = (math.atan2(m[2, 1], m[2, 2]), pitch, math.atan2(m[1, 0], m[0, 0]))
    if abs(m[2, 0]) > 1 - 1e-12:  # gimbal lock: all of the turn goes into roll
        rpy = (math.atan2(-m[1, 2], m[1, 1]), pitch, 0.0)
    origin.set("xyz", " ".join(repr(float(x)) for x in at[:3, 3]))
    origin.set("rpy", " ".join(repr(float(x)) for x in rpy))
