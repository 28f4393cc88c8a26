"""What `kspecdr reduce` says of a night that was given the wrong number of fibers."""


def test_a_warning_of_many_frames_is_said_once(kspecdr, place, tmp_path):
    code, _, err = kspecdr("reduce", place / "raw", "--out", tmp_path / "out", "--fibers", 8, "--workers", 0)
    assert code == 0
    assert err.count("the slit shows 6 places") == 1
    assert "\n4 more of these warnings, of other frames\n10 frames: 2 reduced, 8 used" in err


def test_a_failure_ends_with_what_to_check_and_the_command_that_tells_all(kspecdr, place, tmp_path):
    out = tmp_path / "out"
    code, _, err = kspecdr("reduce", place / "raw", "--out", out, "--fibers", 14, "--workers", 0)
    failed, waiting, *_, counts, following = (line for line in err.splitlines() if not line.startswith("error: "))
    assert code == 1
    assert failed.startswith("flat_00001.fits: failed: 6 of 14 fibers found; ")
    assert failed.endswith("; check --fibers")
    assert waiting.endswith("needs a fiber flat (flat_00001.fits failed: 6 of 14 fibers found); check --fibers")
    assert counts == f"10 frames: 1 failed, 5 used, 4 waiting; products in {out}"
    assert following == f"next: kspecdr why flat_00001.fits --out {out}"
    whole = kspecdr("why", "flat_00001.fits", "--out", out)[1]
    assert (
        "; fflat: needs a fiber flat (flat_00001.fits: failed: 6 of 14 fibers found; expected more than half" in whole
    )
