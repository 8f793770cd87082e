"""Reads the shard files of hf_xet's own disk store."""

from __future__ import annotations

import struct


def parse_shard(b: bytes) -> dict:
    """MDB shard -> {sha256: xet hash}."""

    def hx(raw):  # MerkleHash prints as four little-endian u64s
        return "".join(f"{x:016x}" for x in struct.unpack("<4Q", raw))

    out, pos = {}, 48  # 32-byte tag + version + footer size
    while pos + 48 <= len(b):
        fh, flags, n = b[pos : pos + 32], *struct.unpack("<II", b[pos + 32 : pos + 40])
        if fh == b"\xff" * 32:
            break
        pos += 48 + 48 * n
        if flags & 0x80000000:  # verification entries
            pos += 48 * n
        if flags & 0x40000000:  # metadata ext: sha256
            out[hx(b[pos : pos + 32])] = hx(fh)
            pos += 48
    return out
