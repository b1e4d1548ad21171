"""The binary stores, delivers, reads back and verifies on the board."""

from lab.scenario import CONFIG, equal


def run(lab, board):
    board.prepare(64)
    board.start()
    board.put(CONFIG, "/tmp/forebay.json")
    board.sh("seq 1000 >/tmp/in; forebay run /tmp/forebay.json </tmp/in; cmp /tmp/in /data/out")
    board.sh("forebay read /data/store/telemetry --format raw | cmp /tmp/in -")
    said = board.sh("forebay verify /data/store/telemetry && forebay inspect /data/store/telemetry && forebay --version")
    equal("records after a second run", board.sh(
        "seq 1001 1500 >/tmp/in; forebay run /tmp/forebay.json </tmp/in; tail -n 1 /data/out").strip(), "1500")
    board.stop()
    lab.figure("version", said.strip().splitlines()[-1])
