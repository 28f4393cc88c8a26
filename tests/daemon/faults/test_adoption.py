"""A lost catalog is built again from products and raw frames: nothing that stands whole is made a second time."""


def rows(site):
    """Return what the catalog says of frames, jobs, products and figures, beside times of this run."""
    return (
        set(site.sql("select path, part, state, reason from frames")),
        set(site.sql("select fingerprint, rule, recipe, state, product_state, warnings, set_aside from jobs")),
        set(site.sql("select path, kind, state, provisional, reason, flag, target, lamp, raw from products")),
        set(site.sql('select fingerprint, name, value, "limit", flag from quality')),
    )


def files(site):
    """Return when each product was written, and where."""
    there = (path for path in site.out.glob("*/*/*") if path.is_file())
    return {path.relative_to(site.out): (path.stat().st_ino, path.stat().st_mtime_ns) for path in there}


def lose_catalog(site):
    for path in site.out.glob("catalog.db*"):
        path.unlink()


def test_after_the_loss_of_the_catalog_what_stands_is_adopted_and_what_is_damaged_is_made_again(night, calm, site):
    site.land(night)
    site.finish()
    before, there = rows(site), files(site)
    lose_catalog(site)
    site.finish()
    assert site.said("adopted 7 products that stood there whole", 1.0)
    assert not site.said(" made in ", 0.1)
    assert rows(site) == before
    assert files(site) == there
    assert site.content() == calm

    (damaged,) = site.out.glob("*/*/flat_00001_tlm.fits")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    lose_catalog(site)
    site.finish()
    assert damaged.read_bytes() == whole
    again = files(site)
    assert {path.parent for path in there if again[path] != there[path]} == {damaged.parent.relative_to(site.out)}
    assert site.content() == calm
