"""What people type wrongly, and what the machine refuses: one sentence with the remedy, exit code 2, no traceback."""

import shutil
import socket
import sqlite3
from contextlib import closing

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch, place):
    """A directory with a file, an empty directory, a night and its products."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no table, no directory\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "night").symlink_to(place / "raw")
    shutil.copytree(place / "out", tmp_path / "out", symlinks=True)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("reduce none --out out2", "none is no directory; give the directory of raw frames"),
        ("reduce file --out out2", "file is no directory; give the directory of raw frames"),
        ("reduce night --out file", "file: is a file where a directory is needed; remove it, or give another path"),
        ("reduce night --out file/x", "file/x: a part of this path is a file where a directory is needed"),
        ("reduce night --out /proc/none", "/proc/none: is not there and cannot be made; make it, or give another"),
        ("reduce night --out night", "night is watched for frames and named for products; give another output"),
        ("reduce night --out out2 --fibers file", "table file: expected a file ending in .csv"),
        ("reduce night --out out2 --fibers none.csv", "table none.csv does not exist"),
        ("reduce night --out out2 --fibers 0", "instrument.fibers = 0, expected a positive number of fibres"),
        ("reduce night --out out2 --workers -1", "workers.count = -1, expected greater than or equal to 0"),
        ("run --watch file --out out2", "file is no directory; give the directory in which frames land"),
        ("run --watch night --out file", "file: is a file where a directory is needed"),
        ("run --config none.toml", "none.toml: cannot be read (No such file or directory); give a readable TOML"),
        ("run --config file", "file: not TOML"),
        ("run --config empty", "empty: cannot be read (Is a directory); give a readable TOML file"),
        ("status --out empty", "empty: no catalog there; give the output directory of a reduction as --out"),
        ("status --out file", "file: no catalog there"),
        ("status", "reduced: no catalog there"),
        ("frames --out out --night yesterday", "--night 'yesterday' is no date; give YYYY-MM-DD"),
        ("frames --out out --state lost", "state 'lost' is not known; expected one of incomplete"),
        ("needed --out out --night 27.1.", "--night '27.1.' is no date; give YYYY-MM-DD"),
        ("latest --out out --kind spectrum", "kind 'spectrum' is not known; expected one of bias"),
        ("latest --out out --class STAR", "class 'STAR' is not known; expected one of BIAS"),
        ("latest --out out -n -1", "-n -1, expected 0 (all) or more"),
        (
            "why object --out out",
            "object: no such frame in the catalog; did you mean object_00001.fits or object",
        ),
        ("show object_red.fits --out out", "object_red.fits: no such product in the catalog; `kspecdr latest` lists"),
        ("show night/object_00001.fits --out out", "night/object_00001.fits: no such product in the catalog"),
        ("show object_00001_red.fits --out out --png none/x.png", "none is no directory; make it, or give another"),
        ("show object_00001_red.fits --out out --png empty", "empty is a directory; give the path of a file"),
        ("reproduce none.fits --out out", "none.fits: no such product in the catalog"),
        ("classify none.fits BIAS --out out", "none.fits: no such frame in the catalog"),
        ("classify bias_00001.fits ZERO --out out", "class 'ZERO' is not known; expected one of BIAS"),
        ("mark-bad none.fits --out out", "none.fits: no such frame in the catalog"),
        ("retry none.fits --out out", "none.fits: no such frame in the catalog"),
        ("prune --older-than -1 --out out", "--older-than -1, expected 0 or more days"),
        ("backup out/catalog.db --out out", "out/catalog.db is the catalog itself; give another file"),
        ("backup file --out out", "file exists; give another file, or --force to write over it"),
        ("backup empty --out out", "empty is a directory; give the path of a file"),
        ("backup none/c.db --out out", "none is no directory; make it, or give another path than none/c.db"),
        ("replay none raw", "none holds no frames; give a directory with .fits files"),
        ("replay night file", "file: is a file where a directory is needed"),
        ("replay night night", "exists; replay into a directory without these frames"),
        ("simulate night --night small", "night holds 10 frames, such as arc_hgar_00001.fits; give a directory"),
        ("simulate file --night small", "file: is a file where a directory is needed"),
        ("simulate x --night starry", "night 'starry' is not known; expected one of plain"),
        ("validate --nights starry", "night 'starry' is not known"),
        ("validate --nights plain --json none/x.json", "none is no directory; make it, or give another path"),
        ("demo file", "file/raw: a part of this path is a file where a directory is needed"),
        ("doctor --config none.toml", "none.toml: cannot be read (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_remedy(kspecdr, here, line, says):
    before = (here / "file").read_bytes()
    code, _, err = kspecdr(*line.split())
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("kspecdr: ")
    assert says in err
    assert (here / "file").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("reduce night --out closed/out", "closed/out: permission denied; give this user the permission, or give"),
        ("reduce night --out out --workers 0", "out/.lock: permission denied"),
        ("run --watch night --out closed/out", "closed/out: permission denied"),
        ("mark-bad bias_00001.fits --out out", "this user may not write there; run the command as the user of the"),
        ("backup closed/c.db --out out", "closed/c.db cannot be written (permission denied); give another path"),
        ("show object_00001_red.fits --out out --png closed/x.png", "closed/x.png cannot be written (permission"),
        ("simulate closed/x --night small", "closed/x: permission denied"),
        ("replay night closed/x", "closed/x: permission denied"),
    ],
)
def test_what_this_user_may_not_do_is_one_sentence(kspecdr, here, ordinary_user, line, says):
    (here / "closed").mkdir()
    _close(here / "closed", here / "out")
    with ordinary_user():
        code, _, err = kspecdr(*line.split())
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


def _close(*folders):
    for folder in folders:
        for path in (folder, *folder.iterdir()):
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("line", ["status", "why object_00001.fits", "needed", "show object_00001_red.fits", "frames"])
def test_who_may_only_read_can_read(kspecdr, here, ordinary_user, line):
    _close(here / "out")
    with ordinary_user():
        code, out, _ = kspecdr(*line.split(), "--out", "out")
    assert code == 0
    assert out


@pytest.mark.parametrize("line", ["status --out out", "mark-bad x.fits --out out", "reduce night --out out"])
def test_a_file_that_is_no_catalog_is_told(kspecdr, here, line):
    for path in (here / "out").glob("catalog.db*"):
        path.unlink()
    (here / "out" / "catalog.db").write_text("no database at all, but of some length\n")
    code, _, err = kspecdr(*line.split())
    assert (code, "file is not a database" in err, "Traceback" in err) == (2, True, False)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////none/c.db", "/none/c.db: no catalog there; give the output directory of a reduction as --out"),
        ("mysql://host/db", "catalog.url = 'mysql://host/db', expected sqlite:///FILE or postgresql+psycopg://"),
    ],
)
def test_a_catalog_that_the_configuration_misplaces_is_told(kspecdr, here, url, says):
    (here / "config.toml").write_text(f'[paths]\nout = "out2"\n[catalog]\nurl = "{url}"\n')
    code, _, err = kspecdr("status")
    assert (code, says in err, err.count("\n")) == (2, True, 1)


def test_a_catalog_of_another_version_is_told(kspecdr, here):
    with closing(sqlite3.connect(here / "out" / "catalog.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    code, _, err = kspecdr("status", "--out", "out")
    assert (code, "the catalog is of version 0001" in err, "brings it up to date" in err) == (2, True, True)


def test_a_port_that_is_taken_leaves_the_daemon_at_work(kspecdr, here):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (here / "config.toml").write_text(f"[web]\nport = {port}\n[workers]\ncount = 0\n[plan]\nquiet = 0.1\n")
        code, _, err = kspecdr("run", "--watch", "empty", "--out", "out2", "--until-idle", 0.1)
    assert code == 0
    assert f"no pages: 127.0.0.1 port {port}: Address already in use; give another as web.host or web.port" in err


def test_an_empty_directory_is_told(kspecdr, here):  # noqa: ARG001 - it stands there
    code, _, err = kspecdr("reduce", "empty", "--out", "out2")
    assert (code, "no frame found (.fits, .fits.gz, .fits.fz, .spe); give the directory of raw frames" in err) == (
        1,
        True,
    )


@pytest.mark.parametrize("line", ["frobnicate", "latest --kin red", "why", "prune --older-than soon"])
def test_a_line_that_is_not_understood_is_told(kspecdr, line):
    code, _, err = kspecdr(*line.split())
    assert (code, "Traceback" in err) == (2, False)
    assert "Error: " in err
