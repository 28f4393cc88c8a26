import pytest

from kspecdr.errors import BadOption
from kspecdr.legacy import NO_TYPES, documented
from kspecdr.options import ExtractOptions


@documented(ExtractOptions)
def step(image_filename, tlmap_filename=None, *, options=ExtractOptions(), fiber_types=NO_TYPES):
    return image_filename, tlmap_filename, options, dict(fiber_types)


def test_the_dictionary_and_the_keywords_say_the_same():
    by_dictionary = step({"IMAGE_FILENAME": "a", "TLMAP_FILENAME": "b", "SUM_WIDTH": 7.0, "FIB3": "S"})
    by_keywords = step("a", tlmap_filename="b", sum_width=7.0, fib3="S")
    assert by_dictionary == by_keywords == ("a", "b", ExtractOptions(sum_width=7.0), {3: "S"})


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(
        BadOption, match=r"step does not know 'SUM_WIDHT'; did you mean 'SUM_WIDTH'\? \(known: .*EXTR_OP"
    ):
        step({"IMAGE_FILENAME": "a", "SUM_WIDHT": 7.0})


def test_fiber_types_are_an_error_where_they_mean_nothing():
    @documented()
    def other(image_filename):
        return image_filename

    with pytest.raises(BadOption, match="'fib3'"):
        other(image_filename="a", fib3="S")


@pytest.mark.parametrize("retired", ["SMCOPTEX", "NEWTRAM", "CLOPTEX", "FIT"])
def test_a_retired_extraction_says_what_to_use(retired):
    with pytest.raises(BadOption, match=f"'{retired}' is not offered; use '"):
        step("a", extr_operation=retired)


def test_a_record_of_options_and_single_ones_go_together():
    made = step("a", options=ExtractOptions("OPTEX", scatsub=True), sum_width=3.0)[2]
    assert made == ExtractOptions("OPTEX", sum_width=3.0, scatsub=True)


def test_what_is_missing_is_named():
    with pytest.raises(BadOption, match=r"^step needs IMAGE_FILENAME$"):
        step({"SUM_WIDTH": 3.0})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sum_width", "5.0", "a finite number"),
        ("sum_width", float("nan"), "a finite number"),
        ("scatsub", "False", "True or False"),
        ("extr_operation", 3, "a text"),
        ("tlm_shift", "none", "None or a finite number"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(name, value, expected):
    with pytest.raises(BadOption, match=f"step: {name} is .*, expected {expected}"):
        step("a", **{name: value})
