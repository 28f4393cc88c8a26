from daemon import links


def product(out, name="x_red.fits", print_="aaa"):
    path = out / "night" / print_ / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(print_)
    return f"night/{print_}/{name}"


def test_the_link_leads_to_the_product_wherever_the_directory_is_moved(tmp_path):
    out = tmp_path / "out"
    links.point(out, product(out))
    moved = out.rename(tmp_path / "elsewhere")
    assert (moved / "night" / "x_red.fits").read_text() == "aaa"


def test_the_link_follows_the_current_product(tmp_path):
    old, new = product(tmp_path), product(tmp_path, print_="bbb")
    links.point(tmp_path, old)
    links.repair(tmp_path, [(new, True), (old, False)])
    assert (tmp_path / "night" / "x_red.fits").read_text() == "bbb"
    links.repair(tmp_path, [(old, False)])
    assert (tmp_path / "night" / "x_red.fits").read_text() == "bbb"
    links.unpoint(tmp_path, new)
    assert sorted(path.name for path in (tmp_path / "night").iterdir()) == ["aaa", "bbb"]


def test_a_file_that_somebody_has_put_there_is_left_alone(tmp_path):
    path = product(tmp_path)
    (tmp_path / "night" / "x_red.fits").write_text("mine")
    links.point(tmp_path, path)
    links.unpoint(tmp_path, path)
    assert (tmp_path / "night" / "x_red.fits").read_text() == "mine"
