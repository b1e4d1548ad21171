"""A backlog that was made elsewhere, many times the board's memory, is delivered; memory does not follow it."""

import json

from lab.scenario import equal, holds

NEEDS = {"less memory"}
RESIDENT_MAX_KIB = {"armv7-gnueabihf": 6 * 1024, "aarch64-musl": 8 * 1024}


def run(lab, board):
    mib = 1024 if lab.long else 96
    store = lab.folder / "content" / "store"
    store.mkdir(parents=True)
    records = (mib << 20) // 1000
    lab.target.emulated("probe", "fill", store, records, 980)
    board.prepare(mib + mib // 4 + 64, content=store.parent)
    board.start(memory=lab.target.board["memory_mib_min"])
    said = board.sh("probe drain /data/store", timeout=3600)
    board.stop()
    seen = json.loads(next(line[6:] for line in said.splitlines() if line.startswith("DRAIN ")))
    equal("delivered", seen["delivered"], records)
    lab.figure("backlog MiB", mib)
    lab.figure("peak resident KiB", seen["peakKib"])
    holds(f"{seen['peakKib']} KiB resident", seen["peakKib"] <= RESIDENT_MAX_KIB[lab.target.name])
