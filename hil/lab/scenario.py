"""What scenarios share."""

import re

# The stream of the `forebay` binary; /data is the board's disk.
CONFIG = """{
  "dataDir": "/data/store", "runDir": "/run/forebay",
  "streams": [{"name": "telemetry", "sink": {"type": "file", "path": "/data/out", "format": "raw"}}],
  "inputs": [{"type": "stdin", "stream": "telemetry"}]
}"""


def equal(what, seen, expected):
    """The two are equal, or the scenario fails."""
    if seen != expected:
        raise AssertionError(f"{what}: {seen!r} instead of {expected!r}")


def holds(what, condition):
    """The condition holds, or the scenario fails."""
    if not condition:
        raise AssertionError(what)


def note_in(entries, at):
    """The newest note (promised, taken) that a log of a disk has at a raw block, and (0, 0) before the first."""
    promised = taken = 0
    for entry in entries:
        if entry.offset == at and (found := re.match(rb"FOREBAY (\d+) (\d+)\n", entry.data)):
            promised, taken = int(found[1]), int(found[2])
    return promised, taken
