import pytest

from daemon.watching.twins import gone, preferred, replaced


@pytest.fixture
def beside(tmp_path):
    def names(*present):
        for name in present:
            (tmp_path / name).touch()
        return tmp_path

    return names


def test_plain_fits_goes_before_compressed_before_spe(beside):
    folder = beside("a 1.fits", "a 1.fits.gz", "a 1.fits.fz", "a 1.spe", "a 11.fits", "a 1.txt", "a 1.fits.toml")
    assert [each.name for each in preferred(folder / "a 1.spe")] == ["a 1.fits", "a 1.fits.gz", "a 1.fits.fz"]
    assert [each.name for each in preferred(folder / "a 1.fits.gz")] == ["a 1.fits"]
    assert preferred(folder / "a 1.fits") == []
    assert [each.name for each in replaced(folder / "a 1.fits")] == ["a 1.fits.gz", "a 1.fits.fz", "a 1.spe"]
    assert replaced(folder / "a 1.spe") == replaced(folder / "a 11.fits") == []


def test_names_in_capitals_have_twins_in_capitals(beside):
    folder = beside("B.FITS", "B.SPE", "b.fits")
    assert [each.name for each in preferred(folder / "B.SPE")] == ["B.FITS"]
    assert [each.name for each in replaced(folder / "B.FITS")] == ["B.SPE"]
    assert replaced(folder / "b.fits") == []


def test_a_compressed_file_may_be_what_one_that_is_gone_has_become(beside):
    folder = beside("a 1.fits.gz", "B.FITS.gz", "B.SPE")
    assert {each.name for each in gone(folder / "a 1.fits.gz")} == {
        *("a 1.fits", "a 1.fit", "a 1.fts", "a 1.spe"),
        *("a 1.fits.fz", "a 1.fit.fz", "a 1.fts.fz", "a 1.fit.gz", "a 1.fts.gz"),
    }
    assert {"B.FITS", "B.FITS.fz", "B.FITS.FZ"} < {each.name for each in gone(folder / "B.FITS.gz")}
    assert folder / "B.SPE" not in gone(folder / "B.FITS.gz")
    assert [each.name for each in replaced(folder / "B.FITS.gz")] == ["B.SPE"]
