"""What kind of file system a path lies on, as /proc/mounts says."""

import re
from dataclasses import dataclass
from pathlib import Path

# inotify tells nothing of what another machine writes to these.
NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "davfs",
    }
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system."""

    point: Path
    kind: str  # ext4, cifs, ...

    @property
    def is_network(self) -> bool:
        """Whether other machines may write to it unseen."""
        return self.kind in NETWORK or self.kind.startswith("fuse")


def mount_of(path: Path, table: Path = Path("/proc/mounts")) -> Mount:
    """Return the mount that a path lies on; of kind `unknown` where the system does not say.

    path : need not exist; the nearest folder above it that does decides
    """
    place = path.resolve()
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return Mount(Path("/"), "unknown")
    mounts = [Mount(Path(_unescaped(fields[1])), fields[2]) for fields in map(str.split, lines) if len(fields) > 2]
    above = [mount for mount in mounts if place.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point.parts), default=Mount(Path("/"), "unknown"))


def observer_for(path: Path, wanted: str, table: Path = Path("/proc/mounts")) -> str:
    """Return `inotify` or `polling`: what is wanted, or for `auto` what serves on this mount."""
    if wanted != "auto":
        return wanted
    return "polling" if mount_of(path, table).is_network else "inotify"


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
