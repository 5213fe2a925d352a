"""What a service and a confined child tell each other: JSON and bytes, never anything pickled."""

import json
import struct
from typing import Any

Value = Any
"""Plain JSON, bytes, or an object of JSON whose values may be bytes."""


def pack(value: Value) -> bytes:
    """Length, JSON, then the bytes that the JSON refers to. Nothing is ever pickled."""
    blobs: list[bytes] = []

    def referred(part: Value) -> Value:
        if isinstance(part, bytes):
            blobs.append(part)
            return {"\x00bytes": len(part)}
        if isinstance(part, dict):
            return {name: referred(inner) for name, inner in part.items()}
        return part

    text = json.dumps(referred(value)).encode()
    size = sum(len(blob) for blob in blobs)
    return b"".join([struct.pack("!QQ", len(text), size), text, *blobs])


def is_complete(data: bytes | bytearray) -> bool:
    """Whether nothing is missing from a packed value."""
    return len(data) >= 16 and len(data) >= 16 + sum(struct.unpack("!QQ", data[:16]))


def unpack(data: bytes) -> Value:
    """What `pack` packed."""
    length, _ = struct.unpack("!QQ", data[:16])
    position = 16 + int(length)

    def resolved(part: Value) -> Value:
        nonlocal position
        if not isinstance(part, dict):
            return part
        if part.keys() == {"\x00bytes"}:
            start, position = position, position + part["\x00bytes"]
            return data[start:position]
        return {name: resolved(inner) for name, inner in part.items()}

    return resolved(json.loads(data[16 : 16 + length]))
