import tomllib
from pathlib import Path

import pytest

from daemon.config import Config, load
from daemon.rulebook import RULES
from kspecdr.errors import BadOption

SHIPPED = Path(__file__).resolve().parents[2] / "config.toml"


@pytest.fixture
def loaded(tmp_path):
    def load_text(text, overrides=None):
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, overrides)

    return load_text


def every_key(table, prefix=()):
    for key, value in table.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from every_key(value, (*prefix, key))


def test_shipped_file_equals_the_built_in_defaults():
    assert Config.model_validate(tomllib.loads(SHIPPED.read_text(encoding="utf-8"))) == Config()


def test_shipped_file_is_complete():
    shipped = set(every_key(tomllib.loads(SHIPPED.read_text(encoding="utf-8"))))
    assert set(every_key(Config().model_dump(by_alias=True))) == shipped


def test_without_a_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("daemon.config.SEARCH_PATH", (Path("config.toml"),))
    assert load() == Config()


def test_a_file_in_the_working_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("[watch]\nsettle = 3\n")
    assert load().watch.settle == 3


def test_a_table_is_laid_over_the_defaults_key_by_key(loaded):
    config = loaded("[match.arc]\nwithin_days = 9\n[reduce.extract]\nsum_width = 7\n")
    assert config.match.arc.within_days == 9
    assert config.match.arc.agree == Config().match.arc.agree
    assert config.reduce.extract == {"extr_operation": "OPTEX", "scatsub": True, "sum_width": 7}
    assert config.match.dark == Config().match.dark


def test_options_of_the_command_line_win_and_none_is_no_option(loaded):
    config = loaded("[workers]\ncount = 1\n[watch]\nsettle = 2\n", {"workers": {"count": 4}, "watch": {"settle": None}})
    assert (config.workers.count, config.watch.settle) == (4, 2)


def test_paths_of_a_file_are_relative_to_its_folder(loaded, tmp_path):
    config = loaded(
        '[paths]\nwatch = ["in", "/abs"]\n'
        '[instrument]\nfibers = "slit.csv"\nfibre_tables = [{ match = "t*", table = "t.csv" }]\n',
        {"paths": {"out": "here"}},
    )
    assert config.paths.watch == (str(tmp_path / "in"), "/abs")
    assert config.paths.out == "here"
    assert config.instrument.fibers == str(tmp_path / "slit.csv")
    assert config.instrument.fibre_tables[0].table == str(tmp_path / "t.csv")


def test_kinds_that_later_steps_need_are_always_kept(loaded):
    config = loaded('keep = ["im"]\n')
    assert config.kinds_kept() == ("bias", "dark", "lflat", "im", "tlm", "red", "fflat")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[watch]\nsetle = 1\n", "watch.setle is not a known key; did you mean settle?.*observer, poll"),
        ("fibers = 3\n", "fibers is not a known key.*catalog, classify"),
        ("[match.arcs]\n", "match.arcs is not a known key.*arc, bias, dark"),
        ('[watch]\nsettle = "1"\n', "watch.settle = '1', expected a number"),
        ("[watch]\nsettle = nan\n", "watch.settle = nan, expected a finite number"),
        ("[plan]\nquiet = -1\n", "plan.quiet = -1, expected greater than or equal to 0"),
        ("[instrument]\nfibers = 1.5\n", "instrument.fibers = 1.5, expected an integer or a string"),
        ("[instrument]\nfibers = 0\n", "instrument.fibers = 0, expected a positive number"),
        ('[match.arc]\nagree = ["lamp"]\n', r"match.arc.agree\[0\] = 'lamp', expected 'readout', 'shape'"),
        ('[[classify]]\nname = "x"\n', r"classify\[0\].class is missing"),
        ('[[classify]]\nclass = "BIAS"\n', "one of name, folder, header is needed"),
        (
            '[[classify]]\nclass = "BIAS"\nname = "("\n',
            r"classify\[0\].name = '\(', expected a regular expression",
        ),
        ('[site]\ntimezone = "Mars"\n', "site.timezone = 'Mars', expected a name of the time-zone database"),
        ('[paths]\nwatch = "raw"\n', "paths.watch = 'raw', expected a list"),
        ("paths = 3\n", "paths = 3, expected a table"),
        ("[watch\n", "not TOML"),
    ],
)
def test_an_error_names_file_key_value_and_expectation(loaded, tmp_path, text, says):
    with pytest.raises(BadOption, match=says) as caught:
        loaded(text)
    assert str(caught.value).startswith(str(tmp_path / "config.toml"))


def test_an_error_of_the_command_line_says_so():
    with pytest.raises(BadOption, match=r"command line: workers\.count = -1, expected"):
        load(None, {"workers": {"count": -1}})


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(BadOption, match=r"absent\.toml: cannot be read"):
        load(tmp_path / "absent.toml")


def test_rulebook_carries_what_the_file_sets(loaded):
    book = loaded(
        '[groups.bias]\nleast = 5\n[match.dark]\nexposure = "equal"\n'
        "[plan]\nquiet = 1\n[reduce.extract]\nsum_width = 7\n"
    ).rulebook()
    bias, object_rule = book.rules[0], book.rules[-1]
    assert (bias.group.least, book.matches["dark"].exposure, book.timing.quiet_s) == (5, "equal", 1)
    assert book.options["object"]["extract"]["sum_width"] == 7
    assert "extract" not in book.options["bias"]
    assert object_rule == RULES[-1]


def test_a_readout_mode_is_laid_over_the_measured_one(loaded):
    config = loaded(
        '[instrument.readout."2 MHz LowNoise Low"]\nsaturation = 60000\n'
        '[instrument.readout."4 MHz LowNoise Low"]\ngain = 2.0\nread_noise = 20\n'
    )
    known, new = config.modes()["2 MHz LowNoise Low"], config.modes()["4 MHz LowNoise Low"]
    assert (known.gain, known.saturation, known.saturation_known) == (4.09, 60000, True)
    assert (new.gain, new.read_noise, new.saturation_known) == (2.0, 20, False)
    assert config.rulebook().options["bias"] != Config().rulebook().options["bias"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[reduce.extract]\nsum_witdh = 3\n",
            r"reduce\.extract does not know 'sum_witdh'; did you mean 'sum_width'",
        ),
        (
            '[reduce.image]\ncosmic_ray_method = "MAGIC"\n',
            "cosmic_ray_method is 'MAGIC', expected one of NONE",
        ),
        ('[instrument.readout."9 MHz"]\ngain = 2\n', "'9 MHz' needs gain and read_noise"),
    ],
)
def test_options_of_the_reduction_are_checked_by_their_steps(loaded, text, says):
    with pytest.raises(BadOption, match=says):
        loaded(text)
