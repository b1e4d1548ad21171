"""A real board that is reached by SSH. Its programs and data lie in a folder of their own."""

import base64
import re
import subprocess

PATIENCE = 300


class Ssh:
    """A board that is on. `targets/NAME.toml` may name the folder (`[board] folder`, default /tmp/forebay-hil)."""

    # Counting needs an emulator, cutting a log of the disk; pulling its plug needs a relay that we do not know.
    abilities = frozenset()

    def __init__(self, target, folder, programs, host):
        self.target, self.programs, self.host = target, programs, host
        self.folder = target.board.get("folder", "/tmp/forebay-hil")

    def prepare(self, mib, content=None):
        """Takes away what a former run has left."""
        if content:
            raise AssertionError("a real board's disk is not made here")
        self._ssh(f"rm -rf {self.folder} && mkdir -p {self.folder}/bin {self.folder}/data")

    def start(self, **options):
        """Copies the programs."""
        if options:
            raise AssertionError(f"a real board cannot be started with {', '.join(options)}")
        subprocess.run(["scp", "-q", *map(str, self.programs.values()), f"{self.host}:{self.folder}/bin/"], check=True)

    def sh(self, script, timeout=PATIENCE, check=True):
        """Runs a script; /data, /run/forebay and /tmp of the emulated boards are folders of the board's own."""
        script = self._moved(script)
        script = f"mkdir -p {self.folder}/tmp {self.folder}/run/forebay; export PATH={self.folder}/bin:$PATH FOREBAY_LOG=warn; {script}"
        done = self._ssh(script, timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{self.host}: status {done.returncode} of {script!r}: {done.stdout}{done.stderr}")
        return done.stdout

    def put(self, text, remote):
        """Writes a small file."""
        self.sh(f"echo {base64.b64encode(self._moved(text).encode()).decode()} | base64 -d >{remote}")

    def stop(self):
        """It stays on."""

    def off(self):
        """It stays on."""

    def _moved(self, text):
        return re.sub(r"/(data|run/forebay|tmp)\b", lambda found: f"{self.folder}/{found[1]}", text)

    def _ssh(self, script, timeout=PATIENCE, check=True):
        command = ["ssh", "-o", "BatchMode=yes", self.host, script]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=check)
