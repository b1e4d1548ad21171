"""The power goes at each point: after each flush, after each write, and with half of what was in the disk's cache lost.

Each disk that a cut leaves is checked as a file system, and the board's own program recovers the store from it."""

import random
from concurrent.futures import ThreadPoolExecutor

from lab import disklog
from lab.scenario import holds, note_in

NEEDS = {"disk log", "power"}
RECORDS = 400


def record(lab, board, records, mode):
    """What a disk was told during a load, from an empty file system on."""
    board.prepare(40)
    board.start(log=True)
    board.sh(f"probe load /data/store /dev/data {board.note_at} {records} {mode}", timeout=1200)
    board.kill()
    entries = disklog.read(board.log)
    wrote, flushes = disklog.written(entries)
    lab.say(f"{len(entries)} requests, {flushes} flushes, {wrote} bytes {mode}")
    return entries, [count + 1 for count, entry in enumerate(entries) if entry.flags & disklog.FLUSH]


def check(lab, board, entries, count, image):
    """What is wrong with the store on a disk, or nothing."""
    promised, taken = note_in(entries[:count], board.note_at)
    store = board.files(image, image.with_suffix(".files"))
    if not (store / "load").is_dir():
        return f"LOST: no store, and {promised} promised" if promised else None
    try:
        lab.target.emulated("probe", "check", store, promised, taken)
    except AssertionError as error:
        return str(error)
    finally:
        image.unlink()
    return None


def cuts(lab, board, entries, plan):
    """Plays a plan of (count, seed or None), and gives what was wrong. Two at a time."""
    wrong, waiting = [], []
    base = lab.folder / "base.img"
    settled = disklog.Cutter(base, entries, lab.folder / "settled.img")
    lossy = disklog.Cutter(base, entries, lab.folder / "lossy.img")
    with ThreadPoolExecutor(2) as pool:
        for number, (count, seed) in enumerate(sorted(plan, key=lambda cut: (cut[0], cut[1] or 0))):
            image = lab.folder / f"cut-{number}.img"
            if seed is None:
                settled.settled(count)
                disklog.copy(settled.image, image)
            else:
                lossy.lossy(count, seed, image)
            waiting.append((count, seed, pool.submit(check, lab, board, entries, count, image)))
            if len(waiting) > 4:
                wrong += [(count, seed, found) for count, seed, job in [waiting.pop(0)] if (found := job.result())]
        wrong += [(count, seed, found) for count, seed, job in waiting if (found := job.result())]
    return wrong


def run(lab, board):
    chance = random.Random(7)
    entries, flushes = record(lab, board, RECORDS * (4 if lab.long else 1), "")
    everywhere = range(1, len(entries) + 1)
    if lab.long:
        plan = [(count, None) for count in chance.sample(flushes, min(700, len(flushes)))]
        plan += [(count, None) for count in chance.sample(everywhere, min(500, len(entries)))]
        plan += [(count, seed) for seed in (1, 2) for count in chance.sample(everywhere, min(500, len(entries)))]
    else:
        plan = [(count, None) for count in chance.sample(flushes, min(70, len(flushes)))]
        plan += [(count, None) for count in chance.sample(everywhere, 50)]
        plan += [(count, 1) for count in chance.sample(everywhere, 80)]
    wrong = cuts(lab, board, entries, plan)
    lab.figure("cuts", len(plan))
    lab.figure("lost", len(wrong))
    holds(f"cuts that lost something (requests, seed, what): {wrong[:3]}", not wrong)

    # The control: nothing is synced, and the same check has to find it.
    entries, _ = record(lab, board, RECORDS, "unsynced")
    plan = [(count, 1) for count in chance.sample(range(1, len(entries) + 1), min(20, len(entries)))]
    wrong = cuts(lab, board, entries, plan)
    lab.figure("control cuts", len(plan))
    lab.figure("control lost", len(wrong))
    holds("the control found nothing: this check cannot fail", len(wrong) >= len(plan) // 4)
