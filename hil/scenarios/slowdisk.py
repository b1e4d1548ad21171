"""The disk takes twenty writes a second: appends take no longer, and what was refused is counted."""

import json

from lab.scenario import equal, holds

NEEDS = {"slow disk", "cost"}
# Times are the board's own, one instruction a nanosecond: an append may be hit by a few more interrupts.
TAIL_MAX = 2.0


def tail(board):
    said = board.sh("probe tail /data/store 8", timeout=3000)
    return json.loads(next(line[5:] for line in said.splitlines() if line.startswith("TAIL ")))


def run(lab, board):
    board.prepare(64)
    board.start(count=True)
    fast = tail(board)
    board.slow(20)
    slow = tail(board)
    board.slow(0)
    board.stop()
    for name, seen in (("fast", fast), ("slow", slow)):
        equal(f"{name}: refused are counted", seen["counted"], seen["refused"])
        equal(f"{name}: stored are delivered", seen["delivered"], seen["stored"])
        equal(f"{name}: no offset is skipped", seen["next"], seen["expected"])
        lab.figure(f"{name} p99.9 ns", seen["p999"])
        lab.figure(f"{name} max ns", seen["max"])
        lab.figure(f"{name} refused", seen["refused"])
    ratio = slow["p999"] / fast["p999"]
    lab.figure("p99.9 slow over fast", round(ratio, 2))
    holds(f"the tail of appends moved by {ratio:.2f}", ratio <= TAIL_MAX)
