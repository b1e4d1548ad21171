"""The board dies under load, again and again, and starts cold with what its disk has."""

import random
import re
import time

from lab import disklog
from lab.scenario import holds

NEEDS = {"power"}


def noted(board):
    """What the note on the disk says: promised, taken by the sink, and the first number of that life."""
    with open(board.disk, "rb") as disk:
        disk.seek(board.note_at)
        note = re.match(rb"FOREBAY (\d+) (\d+)\nFIRST (\d+)\n", disk.read(96))
    return tuple(map(int, note.groups())) if note else (0, 0, 0)


def promised(board):
    """What was promised, and taken by the sink."""
    return noted(board)[:2]


def wait(ready, what):
    """Until it is so; two minutes at most."""
    end = time.monotonic() + 120
    while not ready():
        holds(f"{what}: not within two minutes", time.monotonic() < end)
        time.sleep(0.05)


def survived(lab, board, taken_before=0, unused=()):
    """Checks a copy of the disk, and gives what had been promised. A note tells what was taken in one life only, and
    not which numbers between lives are nobody's (`unused`, from and to)."""
    count, taken = promised(board)
    taken = max(taken, taken_before)
    image = lab.folder / "copy.img"
    disklog.copy(board.disk, image)
    store = board.files(image, lab.folder / "copy")
    if count or (store / "load").is_dir():
        ranges = ",".join(f"{start}-{end}" for start, end in unused)
        lab.target.emulated("probe", "check", store, count, taken, *([ranges] if ranges else []))
    return count


def run(lab, board):
    chance = random.Random(11)
    board.prepare(48)
    counts = []
    for _ in range(30 if lab.long else 4):
        before = promised(board)[0]
        board.start()
        board.sh(f"probe load /data/store /dev/data {board.note_at} 1000000 >/dev/console 2>&1 &")
        # A new life may begin at higher numbers; the sink has to be there, too, before the next end.
        wait(lambda: min(promised(board)) > before + 20, "something is promised and taken")
        time.sleep(2 * chance.random())
        board.kill()
        counts.append(survived(lab, board))
    holds(f"each life promises more than the one before: {counts}", counts == sorted(set(counts)))
    lab.figure("kills", len(counts))
    lab.figure("promised", counts[-1])
    lab.figure("lost", 0)
