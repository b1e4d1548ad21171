"""The file system is full: a store goes on within what it has. What it has no room for is held or refused: who waits
for a sync hears that there was none. It loses nothing that it promised, and goes on when there is room again."""

import json

from lab import disklog
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
    taken = promised(board)[1]
    said = board.sh(f"{load} 100000 reject dead >/run/said 2>&1; tail -n 1 /run/said", timeout=1200)
    holds(f"a full disk is said: {said}", "not durable in time" in said or "ERR_FULL" in said)
    board.kill()
    full = survived(lab, board, taken)
    board.start()
    board.sh("rm /data/others")
    board.sh(f"{load} 300 reject dead", timeout=1200)
    board.kill()
    after = promised(board)[0]
    holds(f"it goes on: {full}, then {after}", after > full > 0)
    # The store may have left numbers out between the two lives, of which none was promised: `probe check` knows of one.
    image = lab.folder / "copy.img"
    disklog.copy(board.disk, image)
    store = board.files(image, lab.folder / "copy") / "load"
    lines = lab.target.emulated("forebay", "read", store, "--format", "ndjson").splitlines()
    offsets = {json.loads(line)["offset"] for line in lines}
    lost = set(range(max(taken, after - 250), after)) - offsets
    holds(f"{len(lost)} of the last life are missing", not lost)
    lab.figure("promised until full", full)
    lab.figure("promised after", after)
