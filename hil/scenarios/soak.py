"""Minutes of load with a slow disk, failing writes and ends of power, in an order that a seed decides."""

import random
import time

from lab.scenario import holds
from scenarios.kill import promised, survived, wait

NEEDS = {"power", "slow disk", "disk errors"}
SECONDS = 20 * 60


def run(lab, board):
    chance = random.Random(3)
    board.prepare(48)
    end, lives, slow, failed, count = time.monotonic() + SECONDS, 0, 0, 0, 0
    while time.monotonic() < end:
        before = promised(board)[0]
        board.start()
        board.sh(f"probe load /data/store /dev/data {board.note_at} 1000000 >/dev/console 2>&1 &")
        # A new life begins at higher numbers; the sink has to be there before anything else happens.
        wait(lambda: min(promised(board)) > before + 20, "something is promised and taken")
        for _ in range(chance.randrange(1, 4)):
            time.sleep(2 * chance.random())
            what = chance.random()
            if what < 0.4:
                board.slow(chance.choice([0, 20, 100]))
                slow += 1
            elif what < 0.7:
                board.disk_fails("write", True)
                failed += 1
                time.sleep(1)
                board.disk_works()
        board.kill()
        last, count = count, survived(lab, board)
        holds(f"promises never go back: {last}, then {count}", count >= last)
        lives += 1
    lab.figure("lives", lives)
    lab.figure("changes of speed", slow)
    lab.figure("failed writes", failed)
    lab.figure("promised", count)
    lab.figure("lost", 0)
    holds("something was promised", promised(board)[0] > 0)
