"""What targets/NAME.toml says, and the programs that are built for it."""

import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("HIL_CACHE", ROOT / "target" / "hil"))


class Target:
    """One file of targets/."""

    def __init__(self, name):
        path = ROOT / "targets" / f"{name}.toml"
        if not path.is_file():
            raise SystemExit(f"hil: there is no targets/{name}.toml")
        self.name = name
        self.fields = tomllib.loads(path.read_text())
        self.triple = self.fields["triple"]
        self.board = self.fields.get("board", {})

    @staticmethod
    def all():
        """Every target that has an emulated board, by name."""
        names = sorted(path.stem for path in (ROOT / "targets").glob("*.toml"))
        return [target for target in map(Target, names) if "emulator" in target.board]

    def address(self):
        """Where its real board is reached by SSH."""
        if "address" not in self.board:
            raise SystemExit(f"hil: targets/{self.name}.toml has no `address` in [board]: use --board ssh:USER@HOST")
        return self.board["address"]

    def build(self, features):
        """Builds the binary and the probe; the build tool checks the size."""
        more = ["--features", features] if features else []
        subprocess.run([ROOT / "cross" / "build", self.name, *more], check=True)
        probe = ('environment=$("$0/cross/environment" "$1"); eval "$environment"; '
                 'cd "$0/hil/probe"; cargo build --release --target "$triple"')
        subprocess.run(["bash", "-ec", probe, ROOT, self.name], check=True)

    def program(self, name):
        """The path of a program that `build` has built."""
        shared = os.environ.get("CARGO_TARGET_DIR")
        own = {"forebay": ROOT / "target", "probe": ROOT / "hil" / "probe" / "target"}[name]
        path = Path(shared or own) / self.triple / "release" / name
        if not path.is_file():
            raise SystemExit(f"hil: {name} is not built for {self.name}: run without --no-build")
        return path

    def emulated(self, name, *arguments, **options):
        """Runs a program here, in user-mode emulation, and gives what it printed."""
        command = [self.fields["run"], self.program(name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, **options)
        if done.returncode:
            raise AssertionError(f"{name} {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout
