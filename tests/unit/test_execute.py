"""Running notebooks: outputs stored whole or not at all, and the same every time."""

import importlib.util
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(name):
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(TOOLS))


execute, seeds = load("execute"), load("seeds")

GOOD = """
import os, sys
from IPython.display import display
print(os.environ["DESCENT_CACHE"], os.environ["DESCENT_PROGRESS"], os.path.basename(os.getcwd()))
sys.stdout.flush()
print("again")
display({"text/html": "<b>x</b>", "text/plain": "x", "application/vnd.jupyter.widget-view+json": {"model_id": "1"}}, raw=True)
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    for folder in execute.FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(seeds, "ROOT", tmp_path)
    monkeypatch.setattr(execute.notebooks, "__defaults__", (tmp_path,))

    def write(slug, *sources, folder="chapters"):
        cells = [nbformat.v4.new_markdown_cell("# Title", id="title")]
        cells += [nbformat.v4.new_code_cell(s.strip(), id=f"c{i}") for i, s in enumerate(sources)]
        path = tmp_path / folder / f"{slug}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write


def test_outputs_are_stored_the_same_every_time(house):
    path = house("good", GOOD)
    kept = []
    for _ in range(2):
        assert execute.main(["good"]) == 0
        content = json.loads(path.read_text())
        facts = content["metadata"].pop("descent")
        assert facts["seconds"] > 0 and facts["cells"] == 1 and facts["hardware"]
        kept.append(content)
    assert kept[0] == kept[1]
    printed, shown = kept[0]["cells"][1]["outputs"]
    assert "".join(printed["text"]) == "off off chapters\nagain\n"
    assert set(shown["data"]) == {"text/html", "text/plain"}
    assert [c["id"] for c in kept[0]["cells"]] == ["title", "c0"]
    assert kept[0]["cells"][1]["metadata"] == {}


def test_a_notebook_that_fails_keeps_its_file(house, capsys):
    path = house("bad", "print(1)", "1 / 0")
    before = path.read_bytes()
    house("good", "print(2)")
    assert execute.main([]) == 1
    printed = capsys.readouterr().out
    assert "1 / 0" in printed and "ZeroDivisionError" in printed and "\x1b" not in printed
    assert path.read_bytes() == before
    assert "good.ipynb ..." in printed, "the others still run"


def test_an_unknown_chapter_names_the_known(house, capsys):
    house("good", "1")
    with pytest.raises(SystemExit):
        execute.main(["god"])
    assert "'god'; there are: good" in capsys.readouterr().err


def test_chapters_and_the_pages_of_the_parts_run(house):
    one, two = house("good", "1"), house("a-part", "2", folder="book/parts")
    assert execute.notebooks([]) == [one, two] and execute.notebooks(["good"]) == [one]


def test_a_cell_that_takes_too_long_fails(house, capsys):
    house("slow", "import time; time.sleep(30)")
    assert execute.main(["slow", "--timeout", "1"]) == 1
    assert "failed" in capsys.readouterr().out


def test_errors_reach_the_caller(house):
    with pytest.raises(CellExecutionError):
        execute.run(house("bad", "1 / 0"))


CLAIM = """
from descent.claims import claim
from descent.seeding import seeds
claim("the first seed is small", measured=seeds(1)[0], below=1500, paper=None)
claim("so it is again", measured=1, below=2, paper=None)
"""


def test_shifted_seeds_reach_the_claims_and_decide(house, capsys):
    path = house("claims", CLAIM)
    before = path.read_bytes()
    assert seeds.main(["--chapter", "claims", "--shift", "1000"]) == 0
    assert seeds.main(["--chapter", "claims", "--shift", "2000"]) == 1
    printed = capsys.readouterr().out
    assert "ok     the first seed is small" in printed and "FAILED the first seed is small" in printed
    assert path.read_bytes() == before, "nothing is stored"


def test_the_rotation_is_the_commits():
    slugs = ["a", "b", "c", "d"]
    assert seeds.rotation(slugs, 3, "abc") == seeds.rotation(slugs, 3, "abc")
    assert len({slug for slug, _ in seeds.rotation(slugs, 4, "abc")}) == 4
    drawn = {tuple(seeds.rotation(slugs, 1, str(i))) for i in range(50)}
    assert {slug for ((slug, _),) in drawn} == set(slugs)
    assert all(shift >= 1000 for ((_, shift),) in drawn)
    with pytest.raises(ValueError, match="from 1 up"):
        seeds.rotation(slugs, 0, "abc")
