"""Logs of everything that a disk was told, and the disks that a power cut would have left.

Format: QEMU's `blklogwrites`, which is that of the kernel's dm-log-writes, version 1
(Documentation/admin-guide/device-mapper/log-writes.rst)."""

import random
import struct
import subprocess
from dataclasses import dataclass

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4
BLOCK = 4096


@dataclass
class Entry:
    """One request: `data` to `offset`, both in bytes."""
    offset: int
    flags: int
    data: bytes
    length: int


def read(path):
    """All entries of a log. The count in its head may be older than its end when the board was killed."""
    entries = []
    with open(path, "rb") as log:
        magic, version, _, sector = struct.unpack("<QQQI", log.read(28))
        if magic != MAGIC or version != 1:
            raise AssertionError(f"{path} is no log of writes")
        log.seek(sector)
        while len(head := log.read(sector)) == sector:
            start, count, flags, _ = struct.unpack("<QQQQ", head[:32])
            if not (start or count or flags):
                break
            length = count * sector
            data = b"" if flags & DISCARD else log.read(length)
            if not flags & DISCARD and len(data) < length:
                break
            entries.append(Entry(start * sector, flags, data, length))
    return entries


def apply(disk, entry, part=slice(None)):
    """Writes an entry, or a part of it, to an open disk image."""
    if entry.flags & DISCARD:
        return
    data = entry.data[part]
    disk.seek(entry.offset + (part.start or 0))
    disk.write(data)


class Cutter:
    """Makes disks as a cut after the n-th request leaves them. Steps must not go back."""

    def __init__(self, base, entries, image):
        """`base` is the disk before the log; the result lies in the file `image`."""
        self.entries, self.image, self.applied = entries, image, 0
        copy(base, image)

    def settled(self, count):
        """All of the first `count` requests reached the medium."""
        assert count >= self.applied, "a cut lies before the last one"
        with open(self.image, "r+b") as disk:
            for entry in self.entries[self.applied:count]:
                apply(disk, entry)
        self.applied = count

    def lossy(self, count, seed, out):
        """What was flushed is there; of what came after it, in the cache of the disk, any half and torn at a block."""
        flushed = max((n for n in range(count) if self.entries[n].flags & FLUSH), default=0)
        self.settled(flushed)
        copy(self.image, out)
        chance = random.Random(seed)
        dropped = 0
        with open(out, "r+b") as disk:
            for entry in self.entries[self.applied:count]:
                if entry.flags & FUA or chance.random() < 0.5:
                    apply(disk, entry)
                elif len(entry.data) > BLOCK and chance.random() < 0.5:
                    blocks = chance.randrange(1, len(entry.data) // BLOCK)
                    apply(disk, entry, slice(0, blocks * BLOCK))
                    dropped += 1
                else:
                    dropped += 1
        return dropped


def copy(source, target):
    """A copy that leaves holes out."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def written(entries):
    """Bytes that the disk was told to write, and flushes."""
    return sum(len(entry.data) for entry in entries), sum(bool(entry.flags & FLUSH) for entry in entries)
