import numpy as np
import pytest

from kspecdr.errors import BadOption
from kspecdr.wavecal.arc_io import PACKAGED, load_arc_lines, read_arc_file

# air wavelengths that laboratory lists agree on (Angstrom), one or two a lamp
KNOWN = {
    "hg": (4358.335, 5460.750),
    "ar": (6965.431, 7635.106),
    "ne": (5400.562, 6402.248),
    "kr": (4273.969, 5570.289),
    "cd": (4799.912, 6438.470),
    "xe": (4671.226, 8819.411),
    "he": (5875.620, 6678.151),
}


@pytest.mark.parametrize("lamp", KNOWN)
def test_packaged_tables_hold_the_known_air_wavelengths(lamp):
    table = load_arc_lines(lamp)
    for wavelength in KNOWN[lamp]:
        assert np.min(np.abs(table.wavelength - wavelength)) < 2e-3


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.arc")), ids=lambda path: path.stem)
def test_packaged_tables_are_sorted_scaled_and_cite_their_source(path):
    table = load_arc_lines(path.stem)
    assert np.all(np.diff(table.wavelength) > 0)
    assert table.intensity.max() == 1000
    assert table.intensity.min() > 0
    assert "# Wavelengths" in path.read_text(encoding="utf-8")
    assert set(table.label) == {"Hg", "Ar"} if path.stem == "hgar" else {path.stem.title()}


def test_mixed_lamp_is_composed_of_its_elements_in_any_case():
    mixed = load_arc_lines("KrNeAr")
    assert set(mixed.label) == {"Kr", "Ne", "Ar"}
    assert len(mixed) == sum(len(load_arc_lines(lamp)) for lamp in ("kr", "ne", "ar"))
    assert np.all(np.diff(mixed.wavelength) >= 0)
    assert np.array_equal(mixed.wavelength, load_arc_lines("kr ne-AR").wavelength)
    assert load_arc_lines("Hg(Ar)").files == ("hgar.arc",)
    assert set(load_arc_lines("HgArNeKrCd").label) == {"Hg", "Ar", "Ne", "Kr", "Cd"}


def test_unknown_lamp_lists_the_known_ones():
    with pytest.raises(BadOption, match=r"'ThAr' has no line table; known are ar, cd, .*xe"):
        load_arc_lines("ThAr")


def test_lines_are_bounded_by_the_spectrum_in_either_direction():
    up = np.linspace(5000.0, 6000.0, 501)
    wavelengths, intensities, labels, n = read_arc_file(501, up, "ne")
    assert n == len(wavelengths) == len(intensities) == len(labels) > 20
    assert wavelengths.min() >= 4999
    assert wavelengths.max() <= 6001
    assert np.array_equal(read_arc_file(501, up[::-1], "ne")[0], wavelengths)


def test_max_entries_keeps_the_strongest():
    wavelengths, intensities, _, n = read_arc_file(0, None, "ne", max_entries=5)
    table = load_arc_lines("ne")
    assert n == 5
    assert np.all(np.diff(wavelengths) > 0)
    assert intensities.min() >= np.sort(table.intensity)[-5]


def test_wrong_xvec_is_named():
    with pytest.raises(BadOption, match=r"shape \(10,\), expected \(11,\)"):
        read_arc_file(11, np.linspace(5000, 6000, 10), "ne")


def test_own_directory_wins_and_what_it_lacks_is_reported(tmp_path):
    (tmp_path / "NE.arc").write_text("* mine\n6000.5 10 label=Xx  kind S/N=3\n5000.25 20  # bright\n", encoding="utf-8")
    table = load_arc_lines("ne", tmp_path)
    assert table.wavelength.tolist() == [5000.25, 6000.5]
    assert table.intensity.tolist() == [20, 10]
    assert table.label.tolist() == ["Ne", "Xx"]
    assert table.lacking == ()
    mixed = load_arc_lines("NeKr", tmp_path)
    assert mixed.lacking == ("kr.arc",)
    assert len(mixed) == 2 + len(load_arc_lines("kr"))


@pytest.mark.parametrize("line", ["5000", "5000 many", "-3 4", "nan 1"])
def test_bad_line_is_named_with_its_file_and_number(tmp_path, line):
    (tmp_path / "ne.arc").write_text(f"# head\n5000 1\n{line}\n", encoding="utf-8")
    with pytest.raises(BadOption, match=r"ne\.arc line 3"):
        load_arc_lines("ne", tmp_path)


def test_empty_table_is_an_error(tmp_path):
    (tmp_path / "ne.arc").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(BadOption, match=r"ne\.arc: the line table is empty"):
        load_arc_lines("ne", tmp_path)
