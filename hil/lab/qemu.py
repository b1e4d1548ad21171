"""Emulated boards: a Debian kernel on QEMU's `virt` machine or a named board, with faults that can be switched on."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from . import disklog, initramfs

# QEMU on a loaded machine is slow; nothing waits this long that works.
PATIENCE = 300


class BoardDied(AssertionError):
    """The board ended or fell silent."""


class Qemu:
    """One emulated board. It is off until `start`."""

    abilities = frozenset({"cost", "disk errors", "disk log", "less memory", "network", "power", "rtc", "slow disk"})

    def __init__(self, target, folder, programs):
        self.target, self.folder, self.programs = target, Path(folder), programs
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = self.folder / "data.img"
        self.log = self.folder / "data.log"
        self.console = self.folder / "console.log"
        self.process = self.control = self.monitor = None

    def prepare(self, mib, content=None, journal=True):
        """Gives the board an empty data disk of so many MiB, or one with the content of a folder.

        The last 4 MiB of the disk lie behind the file system: the raw block for notes (`note_at`) is there."""
        self.disk.unlink(missing_ok=True)
        with open(self.disk, "wb") as disk:
            disk.truncate((mib + 4) << 20)
        options = ["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]
        options += ["-d", str(content)] if content else []
        options += [] if journal else ["-O", "^has_journal"]
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", *options, self.disk, f"{mib}M"]
        subprocess.run(command, check=True, env=_path())
        self.note_at = mib << 20

    def start(self, memory=None, log=False, count=False, clock=None, network=False):
        """Boots, and mounts the data disk at /data.

        `log` keeps everything that the disk is told, `count` makes one instruction one nanosecond of the board's
        time, `clock` is the time of its real-time clock (`1970-01-01T00:00:00`)."""
        board = self.target.board
        initrd = self.folder / "initrd"
        with open(initrd, "wb") as out:
            out.write(initramfs.base(board["architecture"]).read_bytes())
            out.write(initramfs.with_programs(self.programs))
        command = [
            board["emulator"], "-M", board["machine"], "-cpu", board["cpu"], "-smp", "1",
            "-m", str(memory or board["memory_mib"]), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-serial", f"file:{self.console}",
            "-kernel", str(initramfs.kernel(board["architecture"])), "-initrd", str(initrd),
            "-append", f"console={board['console']} quiet panic=-1 random.trust_cpu=on "
                       + board.get("kernel_arguments", ""),
            "-qmp", f"unix:{self._socket('qmp')},server=on,wait=off",
            "-device", "virtio-serial-device",
            "-chardev", f"socket,id=control,path={self._socket('control')},server=on,wait=off",
            "-device", "virtserialport,chardev=control,name=control",
            "-device", "virtio-rng-device",
            "-object", "throttle-group,id=limits",
            "-blockdev", f"driver=file,filename={self.disk},node-name=file,cache.direct=off",
        ]
        below = "file"
        if log:
            with open(self.log, "wb") as out:
                out.truncate(1 << 30)
            disklog.copy(self.disk, self.folder / "base.img")
            command += ["-blockdev", f"driver=file,filename={self.log},node-name=log-file", "-blockdev",
                        "driver=blklogwrites,node-name=logged,file=file,log=log-file,log-sector-size=512"]
            below = "logged"
        command += [
            "-blockdev", f"driver=throttle,node-name=slow,throttle-group=limits,file={below}",
            "-blockdev", "driver=raw,node-name=top,file=slow",
            "-device", "virtio-blk-device,drive=top,serial=data,write-cache=on,werror=report,rerror=report",
        ]
        if network:
            command += ["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net,id=nic"]
        if count:
            command += ["-icount", "shift=0,sleep=on"]
        if clock or count:
            command += ["-rtc", f"base={clock or '2026-01-01T00:00:00'},clock=vm"]
        with open(self.folder / "qemu.log", "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.control = self._connect("control")
        self.lines = self.control.makefile("rb")
        while self._line() != "ready":
            pass
        self.sh("for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = data ] && ln -sf /dev/${d##*/} /dev/data; done; "
                "mount -t ext4 /dev/data /data")

    def sh(self, script, timeout=PATIENCE, check=True):
        """Runs a script on the board and gives what it printed."""
        self.control.settimeout(timeout)
        self.control.sendall(base64.b64encode(script.encode()) + b"\n")
        lines = []
        while not (line := self._line()).startswith("END "):
            lines.append(line)
        output = base64.b64decode("".join(lines)).decode(errors="replace")
        status = int(line.split()[1])
        if check and status:
            raise AssertionError(f"{self.target.name}: status {status} of {script!r}: {output}")
        return output

    def put(self, text, remote):
        """Writes a small file."""
        encoded = base64.b64encode(text.encode()).decode()
        self.sh(f"echo {encoded} | base64 -d >{remote}")

    def kill(self):
        """The power goes."""
        self.process.kill()
        self._ended()

    def stop(self):
        """An orderly end; the data disk is whole afterwards."""
        self.sh("sync; umount /data")
        self.control.sendall(base64.b64encode(b"poweroff -f") + b"\n")
        self.process.wait(PATIENCE)
        self._ended()

    def off(self):
        """Whatever state it is in."""
        if self.process:
            self.kill()

    def slow(self, writes_per_second):
        """Lets so many writes through to the disk each second; 0: all."""
        limits = {"iops-write": writes_per_second}
        self._command("qom-set", path="/objects/limits", property="limits", value=limits)

    def disk_fails(self, kind, once):
        """From now on, or once, requests of a kind (`write`, `flush`, `read`) end with an I/O error."""
        rule = {"event": "none", "iotype": kind, "errno": 5, "once": once}
        self._command("blockdev-add", **{"driver": "blkdebug", "node-name": f"faults-{time.monotonic_ns()}"[:31],
                                         "image": "slow", "inject-error": [rule]})
        nodes = self._command("query-named-block-nodes", flat=True)
        node = next(n["node-name"] for n in nodes if n["drv"] == "blkdebug")
        self._command("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": node}])

    def disk_works(self):
        """Takes `disk_fails` back."""
        self._command("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": "slow"}])
        for node in self._command("query-named-block-nodes", flat=True):
            if node["drv"] == "blkdebug":
                self._command("blockdev-del", **{"node-name": node["node-name"]})

    def link(self, up):
        """Pulls the network cable out, or puts it in."""
        self._command("set_link", name="nic", up=up)

    def files(self, image, folder, name="store"):
        """Takes a folder out of a disk image as a file system check leaves it, journal replayed."""
        check = subprocess.run(["e2fsck", "-fy", image], capture_output=True, text=True, env=_path())
        if check.returncode > 1:
            raise AssertionError(f"e2fsck of {image}: {check.stdout}{check.stderr}")
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir(parents=True)
        subprocess.run(["debugfs", "-R", f"rdump /{name} {folder}", image], capture_output=True, check=True, env=_path())
        return Path(folder) / name

    def _socket(self, name):
        return self.folder / f"{name}.sock"

    def _connect(self, name):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(str(self._socket(name)))
                connection.settimeout(PATIENCE)
                return connection
            except OSError:
                connection.close()
                if self.process.poll() is not None or time.monotonic() > end:
                    raise BoardDied(f"{self.target.name}: see {self.folder}/qemu.log") from None
                time.sleep(0.05)

    def _line(self):
        try:
            line = self.lines.readline()
        except TimeoutError:
            line = b""
        if not line:
            tail = self.console.read_text(errors="replace")[-2000:]
            raise BoardDied(f"{self.target.name} fell silent; its console ended with: {tail}")
        return line.decode().strip()

    def _command(self, execute, **arguments):
        if self.monitor is None:
            self.monitor = self._connect("qmp").makefile("rwb")
            self.monitor.readline()
            self._command("qmp_capabilities")
        self.monitor.write(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        self.monitor.flush()
        while True:
            answer = json.loads(self.monitor.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise AssertionError(f"QEMU: {execute}: {answer['error']['desc']}")

    def _ended(self):
        self.process.wait(PATIENCE)
        self.lines.close()
        self.control.close()
        if self.monitor:
            self.monitor.close()
        self.process = self.control = self.monitor = None


def _path():
    return {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
