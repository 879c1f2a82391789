"""Which camera is which: what is there, by what it is named in a robot file, and a picture of what each sees.

    robotrl find-cameras             USB and RealSense cameras; a snapshot of each into cameras/
    robotrl find-cameras URL ...     also these network cameras (http://HOST:PORT/PATH of an MJPEG stream)

A camera that another program has is listed, and why there is no picture of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from robotrl.clock import Clock, WallClock
from robotrl.config import CameraPort

WAIT_NS = 3_000_000_000  # for a frame: a camera that has just been opened takes its time
WARM = 5  # frames until exposure has settled


@dataclass
class Found:
    """A camera: `line` is what a robot file says of it; `snapshot` its picture, or `trouble` why there is none."""

    kind: str
    name: str
    line: str
    snapshot: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    stamp: str = ""  # whose word the capture time is
    trouble: str = ""


def there(urls: list[str], sys_: Path = Path("/sys"), dev: Path = Path("/dev")) -> Iterator[tuple[Found, CameraPort]]:
    """All that can be found, and how each would be opened."""
    from robotrl.drivers import realsense, uvc
    from robotrl.drivers.camera import CameraError

    try:
        library = realsense.library()
        intel = realsense.serials(library)
    except (CameraError, RuntimeError) as error:
        intel = []
        print(f"find-cameras: {error}", file=sys.stderr)
    for serial in intel:
        yield Found("realsense", "RealSense", f'serial = "{serial}"'), CameraPort(kind="realsense", serial=serial)
    for device in uvc.devices(sys_, dev):
        if "RealSense" in device.name and intel:
            continue
        path = device.stable or device.path
        line = f'serial = "{device.serial}"' if device.serial else f'path = "{path}"'
        yield Found("uvc", f"{device.name} ({path})", line), CameraPort(serial=device.serial, path=path)
    for url in urls:
        name = url.rpartition("@")[2] if urlsplit(url).username else url
        yield Found("mjpeg", name, f'url = "{url}"'), CameraPort(kind="mjpeg", url=url)


def look(found: Found, wiring: CameraPort, into: Path, clock: Clock) -> None:
    """Take a picture of what it sees, and say so in `found`."""
    from robotrl.drivers.camera import CameraError, encode
    from robotrl.drivers.cameras import connect

    try:
        camera = connect(wiring, clock)
    except CameraError as error:
        found.trouble = str(error)
        return
    try:
        pixels = None
        for _ in range(WARM):
            frame = camera.read(clock.now() + WAIT_NS)
            if frame is None:
                break
            pixels, found.stamp = frame.pixels(), frame.stamp
    except CameraError as error:
        found.trouble = str(error)
        return
    finally:
        camera.close()
    if pixels is None:
        found.trouble = f"{found.name}: gives no picture; see that nothing else has it"
        return
    into.mkdir(parents=True, exist_ok=True)
    path = into / (
        "".join(c if c.isalnum() else "_" for c in f"{found.kind}_{found.line.partition('= ')[2]}").strip("_") + ".jpg"
    )
    path.write_bytes(encode(pixels))
    found.snapshot, found.size = str(path), (pixels.shape[1], pixels.shape[0])


def main(argv: list[str]) -> int:
    """`find-cameras`; 0 when there is a picture of each camera and there is one, else 2."""
    parser = argparse.ArgumentParser("robotrl find-cameras", description="Which camera is which, with a picture of each.")
    parser.add_argument("url", nargs="*", help="of network cameras, which nobody can find by himself")
    parser.add_argument(
        "--out", type=Path, default=Path("cameras"), metavar="DIR", help="where the pictures go (default: cameras)"
    )
    parser.add_argument("--json", action="store_true", help="print one machine-readable object last")
    parser.add_argument("--sys", type=Path, default=Path("/sys"), help=argparse.SUPPRESS)
    parser.add_argument("--dev", type=Path, default=Path("/dev"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    clock, all_found = WallClock(), []
    for found, wiring in there(args.url, args.sys, args.dev):
        look(found, wiring, args.out, clock)
        all_found.append(found)
        seen = f"{found.size[0]}x{found.size[1]}, stamped by {found.stamp}: {found.snapshot}" if found.snapshot else found.trouble
        print(f"{found.kind:<10} {found.name}\n           {found.line}\n           {seen}", flush=True)
    if not all_found:
        print("find-cameras: no camera on USB; plug one in, or give the address of a network camera", file=sys.stderr)
    if args.json:
        print(json.dumps({"cameras": [asdict(found) for found in all_found]}))
    return 0 if all_found and all(found.snapshot for found in all_found) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
