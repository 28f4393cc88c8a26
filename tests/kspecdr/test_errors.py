from pathlib import Path

import pytest

from kspecdr.errors import BadFrame, BadOption, KspecError, NoSolution, named


@pytest.mark.parametrize("kind", [BadFrame, NoSolution, BadOption])
def test_an_error_keeps_its_kind_and_begins_with_the_file(kind):
    with pytest.raises(KspecError) as caught, named(Path("night/arc_00001.fits")):
        raise kind("3 lines, expected 6")
    assert type(caught.value) is kind
    assert str(caught.value) == "arc_00001.fits: 3 lines, expected 6"
    assert str(caught.value.__cause__) == "3 lines, expected 6"


def test_several_files_are_named_together():
    with (
        pytest.raises(BadFrame, match=r"^a\.fits with b\.csv: no light$"),
        named("a.fits", "x/b.csv", together=" with "),
    ):
        raise BadFrame("no light")


def test_errors_that_nobody_raised_on_purpose_pass_as_they_are():
    with pytest.raises(ValueError, match=r"^shapes differ$"), named("a.fits"):
        raise ValueError("shapes differ")
