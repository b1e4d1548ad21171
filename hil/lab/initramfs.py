"""Initial file systems in the kernel's own archive format (newc cpio, Documentation/driver-api/early-userspace)."""

import re
import stat
from pathlib import Path

from .target import CACHE

MODULES = [
    "virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console",
    "crc32c_generic", "ext4",
]

# The shell on the control port takes one script a line in base64, and gives output and status back.
INIT = b"""#!/bin/sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox --install -s /bin
mkdir -p /sbin /proc /sys /tmp /run /data
export PATH=/bin:/sbin HOME=/ FOREBAY_LOG=warn
mount -t proc none /proc; mount -t sysfs none /sys; mount -t tmpfs none /tmp; mount -t tmpfs none /run
# Where time has 32 bits, busybox cannot look at a file that was used after 2038.
mount -o remount,noatime /
for m in /mod/*.ko; do insmod "$m" || echo "HIL-MODULE-FAILED $m"; done
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
fi
port=
for p in /sys/class/virtio-ports/*; do
    [ "$(cat $p/name)" = control ] && port=/dev/${p##*/}
done
[ -n "$port" ] || { echo "HIL-NO-CONTROL-PORT"; poweroff -f; }
read up _ </proc/uptime
echo "HIL-READY uptime=$up $(uname -rm)"
exec 3<>"$port"
echo ready >&3
while read -r line <&3; do
    echo "$line" | base64 -d >/tmp/script
    sh /tmp/script >/tmp/output 2>&1 </dev/null
    status=$?
    base64 /tmp/output >&3
    echo "END $status" >&3
done
poweroff -f
"""


def _entry(number, name, mode, body=b"", device=(0, 0)):
    name = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, *device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    head += b"\0" * (-len(head) % 4) + body
    return head + b"\0" * (-len(head) % 4)


def archive(entries):
    """An archive of (name, mode, body, device) tuples."""
    parts = [_entry(number, *entry) for number, entry in enumerate(entries, 1)]
    parts.append(_entry(0, "TRAILER!!!", 0))
    whole = b"".join(parts)
    return whole + b"\0" * (-len(whole) % 512)


def _modules(root):
    """The wanted modules and what they depend on, in the order of loading."""
    folder = next((root / "lib" / "modules").iterdir())
    found = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    ordered = []

    def take(name):
        path = found.get(name)
        if path is None or path in ordered:
            return  # Built into the kernel, or there already.
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in depends.group(1).decode().split(",") if depends else []:
            take(other.replace("-", "_"))
        ordered.append(path)

    for name in MODULES:
        take(name)
    return ordered


def base(architecture):
    """The archive that every board of an architecture boots with, made once."""
    kept = CACHE / f"{architecture}.cpio"
    root = CACHE / architecture
    folder, regular, link = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFLNK | 0o777
    entries = [(name, folder) for name in ("bin", "dev", "mod")]
    entries.append(("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)))
    entries.append(("bin/busybox", regular, (root / "bin" / "busybox").read_bytes()))
    entries.append(("bin/sh", link, b"busybox"))
    entries.append(("init", regular, INIT))
    for number, path in enumerate(_modules(root)):
        entries.append((f"mod/{number:02}-{path.name}", regular, path.read_bytes()))
    kept.write_bytes(archive(entries))
    return kept


def with_programs(programs):
    """An archive to be appended: programs in /bin by name."""
    mode = stat.S_IFREG | 0o755
    return archive([(f"bin/{name}", mode, Path(path).read_bytes()) for name, path in programs.items()])


def kernel(architecture):
    """The path of the kernel."""
    kernels = sorted((CACHE / architecture / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise SystemExit("hil: no kernel was fetched: run hil/setup")
    return kernels[-1]
