"""The file system is full: nothing promised is lost, and the store goes on when there is room again."""

from lab.scenario import holds
from scenarios.kill import promised, survived


NEEDS = {"power"}


def run(lab, board):
    board.prepare(24)
    board.start()
    board.sh("dd if=/dev/zero of=/data/others bs=65536 count=300 2>/dev/null || true; df -k /data")
    load = f"probe load /data/store /dev/data {board.note_at} 100000 reject >/data/../run/said 2>&1; tail -n 1 /run/said"
    said = board.sh(load, timeout=1200, check=False)
    holds(f"a full disk is said: {said}", "ERR_FULL" in said)
    full = promised(board)[0]
    board.sh("rm /data/others")
    said = board.sh(f"probe load /data/store /dev/data {board.note_at} 300 reject", timeout=1200)
    after = promised(board)[0]
    holds(f"it goes on: {full}, then {after}", after > full > 0)
    board.kill()
    survived(lab, board)
    lab.figure("promised until full", full)
    lab.figure("promised after", after)
