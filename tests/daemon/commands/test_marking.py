"""mark-bad on one reduced night: what depended on it is told, and made again."""

from daemon.commands import deciding
from daemon.session import locked


def test_a_bad_frame_is_left_out_and_what_was_made_with_it_made_again(copy):
    before = {product.fingerprint for product in copy.reds()}
    code, out, _ = copy("mark-bad", "bias_00001.fits")
    assert (code, out.splitlines()[:2]) == (
        0,
        ["bias_00001.fits: marked bad", "depended on it: 1 bias, 1 dark, 1 tlm, 1 arc, 1 fflat, 2 object"],
    )
    assert out.endswith("made again without it by the next `kspecdr run` or `kspecdr reduce`: no daemon runs now\n")
    copy.again()
    after = copy.reds()
    assert before.isdisjoint(product.fingerprint for product in after)
    assert copy("mark-bad", "bias_00001.fits", "--undo")[0] == 0
    assert copy.again() == 0
    assert {product.fingerprint for product in copy.reds()} == before


def test_why_names_what_was_marked_bad(copy):
    copy("mark-bad", "flat_00001.fits")
    copy.again()
    out = copy("why", "object_00001.fits")[1]
    assert "object_00001.fits: waiting: needs a fiber flat (flat_00001.fits: marked bad)" in out
    assert "  rejected tlm: flat_00001.fits: marked bad\n" in out


def test_a_bad_product_is_used_by_nothing(copy):
    link = next(copy.out.glob("*/arc*_red.fits"))
    code, out, _ = copy("mark-bad", link)
    assert (code, "marked bad" in out) == (0, True)
    copy.again()
    assert all("no arc" in product.reason for product in copy.reds())


def test_exactly_what_depended_on_it_is_named(copy):
    before = {product.fingerprint for product in copy.reds()}
    out = copy("mark-bad", next(copy.out.glob("*/arc*_red.fits")))[1]
    assert "depended on it: 1 fflat, 2 object\n" in out
    assert [line.split()[1] for line in out.splitlines()[2:-1]] == [
        "flat_00001_fflat.fits",
        "object_00001_red.fits",
        "object_00002_red.fits",
    ]
    copy.again()
    assert before.isdisjoint(product.fingerprint for product in copy.reds())
    out = copy("mark-bad", "object_00001.fits")[1]
    assert "object_00001_red.fits was made of nothing else and counts no more\nnothing else depended on it" in out
    out = copy("mark-bad", "object_00001.fits", "--undo")[1]
    assert "what it belongs to is made again, or taken up as it was, by the next `kspecdr run`" in out


def test_a_daemon_that_runs_is_named(copy, monkeypatch):
    monkeypatch.setattr(deciding, "PATIENCE", 0.0)
    with locked(copy.out, "kspecdr run"):
        code, out, _ = copy("mark-bad", "bias_00001.fits")
    assert (code, out.splitlines()[0]) == (0, "mark-bad bias_00001.fits: left for the daemon, which is busy")
    assert "made again without it by kspecdr run (process " in out
