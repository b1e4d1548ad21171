"""The board boots in 1970, its clock jumps to and fro, and 2038 passes."""

from lab.scenario import equal, holds
from scenarios.kill import promised, survived

NEEDS = {"rtc"}
TIMES = {"2026-01-01": 1_767_225_600, "2001-09-09": 1_000_000_000, "2040-01-01": 2_208_988_800, "2037-12-31": 2_145_830_400}


def run(lab, board):
    board.prepare(48)
    board.start(clock="1970-01-01T00:00:00")
    lab.figure("first clock", board.sh("date +%Y").strip())
    load = f"probe load /data/store /dev/data {board.note_at} 60"
    board.sh(load)
    for name, seconds in TIMES.items():
        equal(f"the clock says {name}", board.sh(f"probe clock {seconds}").split()[0], str(seconds))
        board.sh(load)
        count = promised(board)[0]
        lab.figure(f"promised after {name}", count)
    board.kill()
    lab.figure("lost", 0 if survived(lab, board) == count else 1)
    board.start(clock="2045-06-01T00:00:00")
    board.sh(load)
    holds("it goes on after 2038", promised(board)[0] > count)
    board.stop()
    survived(lab, board)
