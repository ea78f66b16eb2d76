"""The archive for a class without internet holds the site, the notebooks and the library, and no solution."""

import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))

import archive  # noqa: E402


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A small repository with a built site; the library's wheel is not built."""
    for name in ("_build/html/index.html", "chapters/a.ipynb", "book/parts/b.ipynb", "exercises/a.ipynb", "book/exercises/a.ipynb", "LICENSE", "LICENSE-text"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "requirements.txt").write_text("# The library\ntorch==2.13.0\n\n# The library itself, editable\n-e .\n")
    (tmp_path / "chapters/.ipynb_checkpoints").mkdir()
    (tmp_path / "chapters/.ipynb_checkpoints/a.ipynb").write_text("old")
    (tmp_path / "built").mkdir()
    (tmp_path / "built/descent.whl").write_text("wheel")
    monkeypatch.setattr(archive, "ROOT", tmp_path)
    monkeypatch.setattr(archive, "library", lambda folder: tmp_path / "built")
    return tmp_path


def test_it_holds_what_a_class_needs(site):
    with zipfile.ZipFile(archive.pack(site / "class.zip")) as packed:
        names = {n.removeprefix("descent/") for n in packed.namelist()}
        assert packed.read("descent/wheels.txt") == b"torch==2.13.0\n"
    assert names == {
        "site/index.html", "chapters/a.ipynb", "book/parts/b.ipynb", "exercises/a.ipynb", "wheels/descent.whl", "wheels.txt", "START.txt", "LICENSE", "LICENSE-text",
    }  # fmt: skip
    assert not list(site.glob("*.partial"))


def test_without_a_site_there_is_no_archive(site):
    (site / "_build/html/index.html").unlink()
    with pytest.raises(FileNotFoundError, match="make book"):
        archive.pack(site / "class.zip")
    assert not (site / "class.zip").exists()
