"""What the course folder keeps, and what is refused before anything is written; the rest is in tests/classroom."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

import classroom  # noqa: E402


def test_what_a_teacher_changed_is_kept(tmp_path, capsys):
    source, target = tmp_path / "book.ipynb", tmp_path / "course/source/a/a.ipynb"
    source.write_text("the book's")
    classroom.place(source, target)
    classroom.place(source, target)
    assert target.read_text() == "the book's" and capsys.readouterr().out == ""
    target.write_text("the teacher's")
    classroom.place(source, target)
    assert target.read_text() == "the teacher's" and f"kept {target}" in capsys.readouterr().out


def test_an_unknown_chapter_names_the_known():
    assert "edge-of-stability" in classroom.slugs([])
    with pytest.raises(ValueError, match="no exercises for the chapter 'egde'; there are: .*edge-of-stability"):
        classroom.slugs(["edge-of-stability", "egde"])


@pytest.mark.parametrize(("arguments", "says"), [([], "name the course's folder"), (["course", "--students"], "name the course's folder")])
def test_a_call_that_makes_no_sense_is_refused(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(SystemExit):
        classroom.main(arguments)
    assert says in capsys.readouterr().err


def test_without_nbgrader_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        classroom.main(["course"])
    assert "pip install -r requirements-teachers.txt" in capsys.readouterr().err
