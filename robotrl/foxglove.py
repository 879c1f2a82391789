"""Pictures as Foxglove knows them: its CompressedImage in JSON, with our own fields beside, so that they are read back too.

Schema: https://github.com/foxglove/foxglove-sdk, schemas/jsonschema/CompressedImage.json.
"""

from __future__ import annotations

from typing import Any

import msgspec

from robotrl.messages import Picture

NAME = "foxglove.CompressedImage"
SCHEMA: dict[str, Any] = {
    "title": NAME,
    "description": "A compressed image",
    "type": "object",
    "properties": {
        "timestamp": {
            "type": "object",
            "title": "time",
            "properties": {
                "sec": {"type": "integer", "minimum": 0},
                "nsec": {"type": "integer", "minimum": 0, "maximum": 999999999},
            },
            "description": "Timestamp of image",
        },
        "frame_id": {"type": "string", "description": "Frame of reference for the image: the camera's name"},
        "data": {"type": "string", "contentEncoding": "base64", "description": "Compressed image data"},
        "format": {"type": "string", "description": "Image format: jpeg"},
    },
}


class Time(msgspec.Struct, frozen=True, gc=False):
    sec: int
    nsec: int


class CompressedImage(Picture, frozen=True, kw_only=True, gc=False):
    """A Picture that says the same once more in Foxglove's words; msgspec writes bytes as base64."""

    timestamp: Time
    frame_id: str


def compressed(picture: Picture, unix_ns: int) -> CompressedImage:
    """`unix_ns`: when it was taken, by the time of day."""
    fields = {name: getattr(picture, name) for name in picture.__struct_fields__}
    return CompressedImage(timestamp=Time(*divmod(unix_ns, 10**9)), frame_id=picture.camera, **fields)
