"""What the course folder keeps, and what is refused before anything is written; the rest is in tests/classroom."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

import classroom  # noqa: E402

from descent.submissions import read_name  # noqa: E402

SLUG = "edge-of-stability"


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


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("ada_edge-of-stability.ipynb", "ada"),
        ("/course/downloaded/edge-of-stability/extracted/ada_edge-of-stability.ipynb", "ada"),
        ("C:\\course\\extracted\\ada_edge-of-stability.ipynb", "ada"),
        ("Ada Lovelace_edge-of-stability.ipynb", "Ada Lovelace"),
        ("ada_edge-of-stability (1).ipynb", "ada"),
        ("ada_edge-of-stability(2).ipynb", "ada"),
        ("ada_edge-of-stability - Copy.ipynb", "ada"),
        ("ada_Edge-of-Stability copy 2.ipynb", "ada"),
        ("s1234567_edge-of-stability.ipynb", "s1234567"),
        ("müller-lüdenscheidt_edge-of-stability.ipynb", "müller-lüdenscheidt"),
        ("mu\u0308ller_edge-of-stability.ipynb", "müller"),  # as macOS writes it
        ("o'neill, ada (x)_edge-of-stability.ipynb", "o'neill, ada (x)"),
        ("Ada Lovelace_123_assignsubmission_file_edge-of-stability.ipynb", "Ada Lovelace_123"),
        ("hw/Ada Lovelace_123_assignsubmission_file_/edge-of-stability (1).ipynb", "Ada Lovelace_123"),
        ("edge_of_stability_ada lovelace_123_assignsubmission_file_edge-of-stability.ipynb", "ada lovelace_123"),
        ("ada_edge_of_stability.ipynb", "ada"),
        ("ada_edge of stability (1).ipynb", "ada"),
        ("hw/Zoë Ö_77_assignsubmission_file/work/edge-of-stability.ipynb", "Zoë Ö_77"),
        ("lovelaceada_4711_998877_edge-of-stability.ipynb", "lovelaceada_4711"),
        ("lovelaceada_LATE_4711_998877_edge-of-stability-1.ipynb", "lovelaceada_4711"),
        ("Edge of Stability_ada_attempt_2024-01-30-15-00-00_edge-of-stability.ipynb", "ada"),
        ("edge-of-stability_ada_attempt_2024-01-30-15-00-00_edge-of-stability.ipynb", "ada"),
    ],
)
def test_names_that_students_and_platforms_make_say_whose_it_is(path, student):
    found = read_name(path, SLUG)
    assert (found["student_id"], found["file_id"]) == (student, SLUG)
    assert found.get("timestamp") == ("2024-01-30-15-00-00" if "attempt" in path else None)  # the newest attempt counts


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("edge-of-stability.ipynb", "does not say whose it is; expected student_edge-of-stability.ipynb"),
        ("edge-of-stability (1).ipynb", "does not say whose it is"),
        ("work/ada/edge-of-stability.ipynb", "does not say whose it is"),
        ("_edge-of-stability.ipynb", "is not named as a notebook"),
        ("ada_quadratic-bowl.ipynb", "'ada_quadratic-bowl.ipynb' is not named as a notebook of 'edge-of-stability'"),
        ("ada_edge-of-stability-checkpoint.ipynb", "is not named as a notebook"),
        ("ada_Untitled.ipynb", "is not named as a notebook"),
        ("ada_lovelace_edge-of-stability.ipynb", "'ada_lovelace' in .* is no student's id, which has no underscore"),
        (" _edge-of-stability.ipynb", "is no student's id"),
        ("edge-of-stability_edge_of_stability_ada lovelace_123_assignsubmission_file_notes.ipynb", "is not named as a notebook"),
        ("__MACOSX/._ada_edge-of-stability.ipynb", "hidden file"),
    ],
)
def test_a_name_that_does_not_say_whose_it_is_is_refused(path, says):
    with pytest.raises(ValueError, match=says):
        read_name(path, SLUG)
