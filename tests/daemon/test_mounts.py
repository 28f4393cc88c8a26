from pathlib import Path

import pytest

from daemon.mounts import mount_of, observer_for

TABLE = """\
/dev/sda1 / ext4 rw 0 0
//pc/data /data/raw cifs rw 0 0
nas:/x /data/raw\\040two nfs4 rw 0 0
sshfs#pc: /mnt/pc fuse.sshfs rw 0 0
tmpfs /data/raw/local tmpfs rw 0 0
garbage
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mounts"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("path", "kind", "observer"),
    [
        ("/home/a", "ext4", "inotify"),
        ("/data/raw/2026/x.fits", "cifs", "polling"),
        ("/data/raw two/n1", "nfs4", "polling"),
        ("/mnt/pc/x", "fuse.sshfs", "polling"),
        ("/data/raw/local/y", "tmpfs", "inotify"),
    ],
)
def test_the_mount_decides_how_to_observe(table, path, kind, observer):
    assert mount_of(Path(path), table).kind == kind
    assert observer_for(Path(path), "auto", table) == observer
    assert observer_for(Path(path), "inotify", table) == "inotify"


def test_without_a_table_the_kind_is_unknown(tmp_path):
    assert mount_of(tmp_path, tmp_path / "none").kind == "unknown"


def test_this_machine_has_a_root():
    assert mount_of(Path("/")).point == Path("/")
