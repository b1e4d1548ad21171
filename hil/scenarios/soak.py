"""Minutes of load with a slow disk, failing writes and ends of power, in an order that a seed decides."""

import random
import time

from lab.scenario import holds
from scenarios.kill import noted, promised, survived

NEEDS = {"power", "slow disk", "disk errors"}
SECONDS = 20 * 60


def run(lab, board):
    chance = random.Random(3)
    board.prepare(48)
    end, lives, slow, failed, count = time.monotonic() + SECONDS, 0, 0, 0, 0
    # What a life leaves may be delivered lives later: what lies between two lives has to be told from what is lost.
    taken, unused = 0, []
    while time.monotonic() < end:
        board.start()
        board.sh(f"probe load /data/store /dev/data {board.note_at} 1000000 quick >/dev/console 2>&1 &")
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
        _, now_taken, first = noted(board)
        taken = max(taken, now_taken)
        if first > count:
            unused.append((count, first))
        last, count = count, survived(lab, board, taken, unused)
        holds(f"promises never go back: {last}, then {count}", count >= last)
        lives += 1
    lab.figure("lives", lives)
    lab.figure("changes of speed", slow)
    lab.figure("failed writes", failed)
    lab.figure("promised", count)
    lab.figure("lost", 0)
    holds("something was promised", promised(board)[0] > 0)
