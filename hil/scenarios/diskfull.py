"""The file system is full: a store goes on within what it has, refuses what it has no room for, loses nothing that it
promised, and goes on when there is room again."""

from lab.scenario import holds
from scenarios.kill import promised, survived


NEEDS = {"power"}


def run(lab, board):
    board.prepare(24)
    board.start()
    load = f"probe load /data/store /dev/data {board.note_at}"
    board.sh(f"{load} 300 reject", timeout=1200)
    board.sh("dd if=/dev/zero of=/data/others bs=65536 2>/dev/null || true")
    board.sh(f"{load} 300 reject", timeout=1200)
    said = board.sh(f"{load} 100000 reject dead >/run/said 2>&1; tail -n 1 /run/said", timeout=1200)
    holds(f"a full disk is said: {said}", "ERR_FULL" in said)
    full = promised(board)[0]
    board.sh("rm /data/others")
    board.sh(f"{load} 300 reject", timeout=1200)
    after = promised(board)[0]
    holds(f"it goes on: {full}, then {after}", after > full > 0)
    board.kill()
    survived(lab, board)
    lab.figure("promised until full", full)
    lab.figure("promised after", after)
