"""Counts: instructions of appends, syncs and exports; memory; what the disk is told for each byte stored.

One instruction takes a nanosecond of the board's time, so the figures do not depend on the machine that emulates it.
They are held against hil/baseline/TARGET.json: computation within 2 %, with the disk within 10 %."""

import json
from pathlib import Path

from lab import disklog
from lab.scenario import holds

NEEDS = {"cost", "disk log"}
TOLERANCE = {"instructions": 0.02, "disk instructions": 0.10, "KiB": 0.10, "bytes": 0.10, "flushes": 0.10}
BASELINES = Path(__file__).resolve().parents[1] / "baseline"


def run(lab, board):
    board.prepare(96)
    board.start(count=True)
    said = board.sh("mkdir -p /run/probe; probe cost /run/probe/store /data/store", timeout=3000)
    figures = [json.loads(line[5:]) for line in said.splitlines() if line.startswith("COST ")]
    board.stop()

    # What the disk is told: 20,000 records of 106 bytes under the default policy.
    board.prepare(96)
    board.start(log=True, count=True)
    board.sh("sync; mkdir -p /data/store")
    board.sh("probe fill /data/store 20000 100", timeout=3000)
    board.stop()
    wrote, flushes = disklog.written(disklog.read(board.log))
    figures.append({"name": "bytes told to the disk, 20,000 records of 106 bytes", "value": wrote, "unit": "bytes"})
    figures.append({"name": "flushes of the disk, the same", "value": flushes, "unit": "flushes"})

    path = BASELINES / f"{lab.target.name}.json"
    if lab.update_baseline:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
    baseline = {figure["name"]: figure["value"] for figure in json.loads(path.read_text())}
    moved = []
    for figure in figures:
        name, value = figure["name"], figure["value"]
        lab.figure(name if figure["unit"] in ("bytes", "flushes") else f"{name}, {figure['unit']}", value)
        known = baseline.get(name)
        if known is None or abs(value - known) > TOLERANCE[figure["unit"]] * known:
            moved.append(f"{name}: {value}, was {known}")
    most = lab.target.board.get("instructions_max", {})
    seen = {figure["name"]: figure["value"] for figure in figures}
    for name, bound in most.items():
        holds(f"{name}: {seen[name]}, at most {bound}", seen[name] <= bound)
    holds(f"other than the baseline (meant? hil/run --scenario bench --update-baseline): {moved}", not moved)
