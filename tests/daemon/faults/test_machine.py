"""What a machine does to a daemon: disks, catalog, clock, watched directories. It pauses, says so, and goes on."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager

import pytest


@pytest.fixture
def small_disk():
    """Mount small disks, and let them grow; skip where mounts are not allowed."""
    mounted = []

    def mount(place, size):
        place.mkdir(parents=True, exist_ok=True)
        again = place in mounted
        option = f"remount,size={size}" if again else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode:  # noqa: S603 - a fixed command
            pytest.skip("a small disk needs the right to mount one")
        mounted.extend([] if again else [place])

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S603, S607 - as above


@contextmanager
def unchangeable(directory):
    """Let nobody, root included, change a directory; skip where that cannot be done."""
    if subprocess.run(["chattr", "+i", str(directory)], check=False, capture_output=True).returncode:  # noqa: S603, S607 - a fixed command
        pytest.skip("an immutable directory needs the right to make one, and a file system that knows it")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(directory)], check=True)  # noqa: S603, S607 - as above


@pytest.mark.soak
def test_a_full_output_is_waited_for(night, calm, site, small_disk):
    small_disk(site.out, "40m")
    site.land(night)
    with site.daemon(until_idle=8.0) as process:
        assert site.said("MB free")
        assert process.poll() is None
        small_disk(site.out, "2g")
        assert process.wait(timeout=120.0) == 0
    assert site.content() == calm


def test_a_full_disk_of_the_catalog_alone_is_waited_for(night, calm, site, small_disk):
    elsewhere = site.place / "database"
    small_disk(elsewhere, "280k")
    site.land(night)
    catalog = {"catalog": {"url": f"sqlite:///{elsewhere / 'catalog.db'}"}}
    with site.daemon(until_idle=6.0, **catalog) as process:
        assert site.said("no job begins: ")
        assert site.said("full")
        assert process.poll() is None
        small_disk(elsewhere, "1g")
        assert process.wait(timeout=120.0) == 0
    shutil.copyfile(elsewhere / "catalog.db", site.out / "catalog.db")
    assert site.content() == calm


def test_an_output_that_cannot_be_written_is_waited_for(night, calm, site):
    site.land(night)
    with site.daemon(until_idle=8.0) as process:
        assert site.wait_for("select 1 from jobs where state = 'done'")
        (directory,) = [each for each in site.out.iterdir() if each.is_dir()]
        with unchangeable(directory):
            assert site.said("no job begins: ")
            assert "Operation not permitted" in site.log.read_text()
        assert process.wait(timeout=120.0) == 0
    assert site.said("jobs begin again")
    assert site.content() == calm


@pytest.mark.parametrize("seconds", [0.5, pytest.param(30.0, marks=pytest.mark.soak)])
def test_a_locked_catalog_is_waited_for(night, calm, site, seconds):
    site.land(night[:3])
    with site.daemon(until_idle=8.0) as process:
        assert site.wait_for("select 1 from jobs where state = 'done'")
        with closing(sqlite3.connect(site.out / "catalog.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            site.land(night)
            assert site.said("database is locked")
            time.sleep(seconds)
            assert process.poll() is None
            holder.execute("ROLLBACK")
        assert site.said("jobs begin again")
        assert process.wait(timeout=120.0) == 0
    assert site.content() == calm


def test_a_catalog_deleted_between_two_runs_is_built_again_with_what_people_said(night, site):
    site.land(night)
    site.finish()
    site.command("classify", "object_00002.fits", "IGNORE")
    site.finish()
    before = site.current()
    for path in site.out.glob("catalog.db*"):
        path.unlink()
    site.finish()
    assert ("object_00002.fits", 0, "ignored") in {state[:3] for state in before[1]}
    products, states = site.current()
    assert states == before[1]
    assert products == before[0]


def test_a_catalog_deleted_while_the_daemon_runs_is_built_again(night, calm, site):
    site.land(night[:5])
    with site.daemon(until_idle=6.0) as process:
        assert site.wait_for("select 1 from jobs where state = 'done'")
        for path in site.out.glob("catalog.db*"):
            path.unlink()
        assert site.said("catalog.db is not the file that was opened")
        site.land(night)
        assert process.wait(timeout=120.0) == 0
    assert site.content() == calm


def test_at_sigterm_what_runs_is_finished_or_given_back(night, calm, site):
    site.land(night)
    with site.daemon() as process:
        assert site.wait_for("select 1 from jobs where state = 'running'")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60.0) == 0
    assert not site.sql("select 1 from jobs where state in ('queued', 'running')")
    assert not site.sql("select 1 from frames where state in ('queued', 'running')")
    assert not list(site.out.rglob("*.partial"))
    site.finish()
    assert site.content() == calm


def test_a_watched_directory_that_vanishes_and_comes_back_loses_nothing(night, calm, site):
    site.land(night[:-1])
    with site.daemon(until_idle=8.0) as process:
        assert site.wait_for("select 1 from jobs where state = 'done'")
        site.raw.rename(site.place / "aside")
        assert site.said("raw")
        assert site.said("is not there") or site.said("lost")
        time.sleep(2.0)
        assert not site.sql("select 1 from frames where state = 'absent'")
        (site.place / "aside").rename(site.raw)
        site.land(night)
        assert process.wait(timeout=120.0) == 0
    assert site.content() == calm


@pytest.mark.soak
def test_a_night_in_two_directories_gives_the_same_products(night, calm, site):
    other = site.place / "raw2"
    other.mkdir()
    site.land(night)
    for path in night[5:]:
        os.rename(site.raw / path.name, other / path.name)  # noqa: PTH104 - as `mv` does
    site.finish(roots=[site.raw, other])
    assert site.content() == calm


@pytest.mark.soak
@pytest.mark.parametrize("after", ["", "2.0"])
def test_a_clock_that_is_set_back_holds_nothing_up(night, calm, site, after):
    """By a day, between two runs or while one is at work."""
    site.land(night[:6])
    if not after:
        site.finish()
    site.land(night)
    site.finish(environment={"CLOCK_BACK": after or "0"})
    assert site.content() == calm


def test_sighup_takes_the_configuration_over_and_says_what_changed(night, site):
    site.land(night[:3])
    with site.daemon() as process:
        assert site.wait_for("select 1 from jobs where state = 'done'")
        site.configured(reduce={"image": 3})
        process.send_signal(signal.SIGHUP)
        assert site.said("the configuration stays as it was: ")
        site.configured(plan={"like_wait": 2.5})
        process.send_signal(signal.SIGHUP)
        assert site.said("plan.like_wait: 1.0 becomes 2.5")
        assert process.poll() is None
