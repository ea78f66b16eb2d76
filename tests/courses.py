"""A course of one chapter, driven by nbgrader's own commands, as a teacher would."""

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TEACHERS = ROOT / ".teachers"  # made by `make test`: nbgrader, apart from the environment that everyone has
GRADES = """
import json, sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    print(json.dumps({s.student.id: {g.cell.name: [g.auto_score, g.needs_manual_grade, g.max_score] for n in s.notebooks for g in n.grades}
                      for s in book.assignment_submissions(sys.argv[1])}))
"""


class Course:
    """One assignment in a folder of its own: `hand_in`, `collect`, `autograde`, `feedback`, then `grades` and `told`."""

    def __init__(self, folder: Path, slug: str):
        self.folder, self.slug = folder, slug
        here = (str(TEACHERS), os.environ.get("PYTHONPATH", ""))
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, here)),
            "PATH": os.pathsep.join([str(TEACHERS / "bin"), os.environ["PATH"]]),
        }
        self.call(ROOT / "tools/classroom.py", folder, slug, where=ROOT)

    def call(self, *command, where: Path | None = None, fails: bool = False) -> str:
        done = subprocess.run([sys.executable, *map(str, command)], cwd=where or self.folder, env=self.env, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    def nbgrader(self, command: str, *options: str) -> str:
        return self.call("-m", "nbgrader", command, self.slug, *options)

    def notebook(self, step: str, student: str = ".") -> nbformat.NotebookNode:
        return nbformat.read(self.folder / step / student / self.slug / f"{self.slug}.ipynb", as_version=4)

    def hand_in(self, student: str, notebook: nbformat.NotebookNode) -> None:
        archive = self.folder / "downloaded" / self.slug / "archive"
        archive.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, archive / f"{student}_{self.slug}.ipynb")

    def grade(self, *options: str) -> None:
        self.nbgrader("zip_collect")
        self.nbgrader("autograde", *options)
        self.nbgrader("generate_feedback")

    @cached_property
    def grades(self) -> dict[str, dict[str, tuple[float | None, bool, float]]]:
        """Student -> graded cell -> its points, whether it waits for the teacher, and the most it gives; read once, after `grade`."""
        return json.loads(self.call("-c", GRADES, self.slug))

    def told(self, student: str) -> dict[str, str]:
        """Graded cell -> what the graded notebook says below it."""
        cells = [c for c in self.notebook("autograded", student).cells if c.cell_type == "code" and c.metadata.get("nbgrader", {}).get("grade")]
        return {c.metadata.nbgrader.grade_id: json.dumps(c.outputs, ensure_ascii=False) for c in cells}

    def feedback(self, student: str) -> str:
        return (self.folder / "feedback" / student / self.slug / f"{self.slug}.html").read_text(encoding="utf-8")


def answered(notebook: nbformat.NotebookNode, answers: dict[str, str]) -> nbformat.NotebookNode:
    """The students' notebook with code in the place of the dots, for each answer cell named."""
    notebook = nbformat.from_dict(notebook)
    cells = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}
    for name, code in answers.items():
        given = [line for line in cells[name].source.splitlines() if "= ..." not in line and "your code here" not in line]
        cells[name].source = "\n".join([*given, code])
    return notebook
