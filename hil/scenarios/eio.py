"""Writes and flushes end with I/O errors, once and for ever. What was promised is there afterwards."""

import time

from lab.scenario import holds
from scenarios.kill import promised, survived, wait

NEEDS = {"disk errors", "power"}


def run(lab, board):
    for kind in ("write", "flush"):
        for once in (True, False):
            name = f"{kind} {'once' if once else 'for ever'}"
            board.prepare(48)
            board.start()
            board.sh(f"probe load /data/store /dev/data {board.note_at} 1000000 >/dev/console 2>&1 &")
            wait(lambda: promised(board)[0] >= 50, "something is promised")
            board.disk_fails(kind, once)
            before = promised(board)[0]
            # A flush that failed makes ext4 read-only; then nothing more can be promised, and nothing is.
            time.sleep(3)
            if kind == "write" and once:
                wait(lambda: promised(board)[0] >= before + 50, "it goes on after one failed write")
            board.kill()
            count = survived(lab, board)
            holds(f"{name}: promises since", count >= before)
            lab.figure(f"{name}: promised before and after", [before, count])
