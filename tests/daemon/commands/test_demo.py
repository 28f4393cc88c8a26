import numpy as np
from PIL import Image

from daemon.commands.demo import run_demo


def test_the_demo_makes_spectra_and_a_picture_by_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("daemon.commands.demo.SPACING", 0.05)
    monkeypatch.setattr("daemon.commands.demo.QUIET", 0.3)
    monkeypatch.setattr("daemon.commands.demo.NIGHT", "small")
    code = run_demo(tmp_path / "demo")
    out = capsys.readouterr().out
    assert code == 0, out
    assert "object of object_00001.fits: in the catalog" in out
    assert "10 frames, 2 object spectra" in out
    assert out.splitlines()[-1].endswith("demo may be removed")
    picture = np.asarray(Image.open(tmp_path / "demo" / "spectrum.png"))
    assert picture.shape[:2] == (520, 900)
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100
