"""Running notebooks: outputs stored whole or not at all, and the same every time."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError

from descent.claims import build

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(name):
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
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


ONE = """
import os
from descent.claims import claim
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
claim("there is one processor", measured=cores, below=1.5, paper=None)
"""
FOUR = """
import torch
from descent.claims import claim
claim("vectors have four numbers", holds=torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX"), evidence="what PyTorch says", paper=None)
"""


def test_other_kernels_reach_the_claims(house, capsys, tmp_path):
    house("rounded", ONE, FOUR)
    seeds.main(["--chapter", "rounded", "--kernel", "narrow", "--keep", str(tmp_path / "kept")])
    assert "ok     vectors have four numbers" in capsys.readouterr().out
    seeds.main(["--chapter", "rounded", "--kernel", "single", "--keep", str(tmp_path / "kept")])
    assert "ok     there is one processor" in capsys.readouterr().out
    assert set(seeds.kept(tmp_path / "kept")["rounded"]) == {"narrow kernels", "single kernels"}


def test_without_a_choice_a_chapter_gets_every_shift_and_every_kernel(house):
    house("claims", CLAIM)
    options = seeds.argparse.Namespace(rotate=None, chapter="claims", shift=None, kernel=None)
    runs = seeds.plan(options, ["claims", "other"])
    assert len(seeds.SHIFTS) >= 5 and len(seeds.KERNELS) >= 2
    assert runs == [seeds.Run("claims", shift=s) for s in seeds.SHIFTS] + [seeds.Run("claims", kernel=k) for k in seeds.KERNELS]


def claims_of(values, **relation):
    return [build("it is", measured=v, paper=None, **relation) for v in values]


def test_a_margin_is_a_distance_in_standard_deviations():
    values = np.array([9.0, 10.0, 11.0])
    assert seeds.margin(claims_of(values, expected=12, abs=5)) == pytest.approx((10 - 7) / 1)
    assert seeds.margin(claims_of(values, above=13, reproduces=False, reason="too small")) == pytest.approx(
        math.log(13 / np.exp(np.log(values).mean())) / np.log(values).std(ddof=1)
    )
    assert seeds.margin(claims_of(values - 20, below=-7)) == pytest.approx(3)
    assert seeds.margin(claims_of([5.0, 5.0, 5.0], below=7)) == math.inf
    assert math.isnan(seeds.margin([build("it is", holds=[True, True], evidence="x", paper=None)] * 3))


def test_the_deciding_value_and_the_control_have_margins_too():
    cases = [[1.0, 5.0], [1.0, 6.0], [1.0, 7.0]]
    assert seeds.margin(claims_of(cases, below=12, above=-100, over="all")) == pytest.approx(6)
    controlled = [build("it is", measured=0.0, above=-1, below=1, control=c, against="x", paper=None) for c in (3.0, 4.0, 5.0)]
    assert seeds.margin(controlled) == pytest.approx(3)
    text = seeds.table({"a": {str(i): [c.to_record()] for i, c in enumerate(controlled)}})
    assert "3.0" in text and "3 of 3 | it is" in text and "<2" not in text


def test_the_rotation_is_the_commits():
    slugs = ["a", "b", "c", "d"]
    assert seeds.rotation(slugs, 3, "abc") == seeds.rotation(slugs, 3, "abc")
    assert len({run.slug for run in seeds.rotation(slugs, 2, "abc")}) == 4
    drawn = [seeds.rotation(slugs, 1, str(i)) for i in range(50)]
    assert {shifted.slug for shifted, _ in drawn} == {rounded.slug for _, rounded in drawn} == set(slugs)
    assert all(shifted.shift >= 1000 and not shifted.kernel for shifted, _ in drawn)
    assert {rounded.kernel for _, rounded in drawn} == set(seeds.KERNELS) and {rounded.shift for _, rounded in drawn} == {0}
    with pytest.raises(ValueError, match="from 1 up"):
        seeds.rotation(slugs, 0, "abc")
