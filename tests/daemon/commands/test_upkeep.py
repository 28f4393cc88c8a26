"""needed, prune, backup and a lost catalog on one reduced night."""

import json
import sqlite3
import subprocess
from pathlib import Path

from daemon.catalog import Catalog


def directories(out):
    return {path for path in out.glob("*/*") if path.is_dir() and not path.is_symlink()}


def test_prune_removes_only_what_nothing_uses(copy):
    assert copy("prune", "--older-than", 0, "--dry-run")[1] == "0 directories would be removed\n"
    copy("mark-bad", "object_00002.fits")
    copy.again()
    code, out, _ = copy("prune", "--older-than", 0, "--dry-run")
    doomed = {Path(line) for line in out.splitlines() if line.startswith("/")}
    kept = directories(copy.out) - doomed
    assert (code, len(doomed)) == (0, 1)
    assert copy("prune", "--older-than", 1, "--dry-run")[1] == "0 directories would be removed\n"
    assert copy("prune", "--older-than", 0)[1] == "1 superseded product(s) pruned\n"
    assert directories(copy.out) == kept
    copy("mark-bad", "object_00002.fits", "--undo")
    assert copy.again() == 0
    assert len(copy.reds()) == 2
    assert all(product.path.is_file() for product in copy.reds())


def test_a_backup_is_a_whole_catalog(on_night, tmp_path):
    code, out, _ = on_night("backup", tmp_path / "copy.db")
    assert (code, "copy.db" in out) == (0, True)
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
        assert copy.execute("select count(*) from frames").fetchone() == (10,)
    copy.close()


def test_a_backup_writes_over_nothing_unasked_and_is_restored_as_it_says(copy, tmp_path):
    kept = tmp_path / "kept.db"
    code, out, _ = copy("backup", kept)
    assert (code, out.startswith(f"{kept}: the catalog of {copy.out}, 10 frames")) == (0, True)
    copy("mark-bad", "bias_00001.fits")
    before = kept.read_bytes()
    assert copy("backup", kept)[::2] == (2, f"kspecdr: {kept} exists; give another file, or --force to write over it\n")
    assert kept.read_bytes() == before
    assert copy("backup", copy.out / "catalog.db", "--force")[0] == 2
    restore = out.splitlines()[1].removeprefix("to restore it: stop the daemon, then ").replace(", then ", " && ")
    subprocess.run(["/bin/sh", "-c", restore], check=True)  # noqa: S603 - what the command has said
    assert copy("frames", "--state", "bad")[1] == ""
    assert copy("backup", kept, "--force")[0] == 0


def test_a_catalog_elsewhere_is_known_by_its_own_file(kspecdr, place, tmp_path):
    kept, settings = tmp_path / "elsewhere.db", tmp_path / "config.toml"
    settings.write_text(f'[paths]\nout = "{place / "out"}"\n[catalog]\nurl = "sqlite:///{kept}"\n')
    Catalog.open(f"sqlite:///{kept}", place / "out").close()
    code, _, err = kspecdr("backup", kept, "--force", "--config", settings)
    assert (code, err) == (2, f"kspecdr: {kept} is the catalog itself; give another file\n")
    assert kspecdr("backup", tmp_path / "copy.db", "--config", settings)[1].endswith(f"/copy.db {kept}\n")


def test_needed_lists_what_the_night_lacks(on_night, copy, reds):
    night = reds[0].night
    assert on_night("needed", "--night", night)[1] == "nothing is missing\n"
    assert on_night("needed")[1:] == ("nothing is missing\n", f"of night {night}\n")
    for name in ("dark_300s_00001.fits", "arc_hgar_00001.fits", "arc_ne_00001.fits"):
        for path in copy.raw.glob(f"{name.split('_')[0]}*"):
            copy("mark-bad", path.name)
    lacks = {each["calibration"]: each for each in json.loads(copy("needed", "--night", night, "--json")[1])}
    assert set(lacks) == {"dark", "arc"}
    assert (lacks["dark"]["lacks"], lacks["dark"]["waiting"], lacks["dark"]["frame_class"]) == (2, 2, "DARK")
    assert (lacks["arc"]["lacks"], lacks["arc"]["waiting"]) == (1, 2)
    setting, *lines = copy("needed")[1].splitlines()
    assert setting.startswith("grating 150 lines/mm, center 625 nm")
    assert [" ".join(line.split()) for line in lines] == [
        "take 2 darks of 300 s 2 spectra wait",
        "take 1 arc 2 spectra wait",
    ]


def test_a_lost_catalog_is_rebuilt_with_the_decisions_of_people(copy):
    copy("mark-bad", "bias_00001.fits")
    copy("classify", "dark_300s_00003.fits", "IGNORE")
    copy.again()
    copy("mark-bad", next(copy.out.glob("*/object_00002_red.fits")))
    copy.again()
    catalog = Catalog.open(str(copy.out), create=False)
    before = {(frame.path, frame.frame_class, frame.state, frame.reason) for frame in catalog.frames()}
    catalog.close()
    products = {(product.fingerprint, product.provisional) for product in copy.reds()}
    for left in copy.out.glob("catalog.db*"):
        left.unlink()
    copy.again()
    catalog = Catalog.open(str(copy.out), create=False)
    assert {(frame.path, frame.frame_class, frame.state, frame.reason) for frame in catalog.frames()} == before
    catalog.close()
    assert {(product.fingerprint, product.provisional) for product in copy.reds()} == products
    assert "bad" in {state for _, _, state, _ in before}
