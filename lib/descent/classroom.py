"""What nbgrader needs beside itself to grade thirty notebooks of which some misbehave.

`SANITIZE` and `AUTOGRADE` are the preprocessors that `tools/nbgrader_config.py` gives to
`nbgrader autograde`. With them a submission that loops forever, kills its kernel, prints
without end or lacks its tests is graded for what it holds, and the next one is not touched.
They guard against accidents. A submission is a program that runs with the rights of whoever
grades it: grade those of strangers in a container.

Needs nbgrader (`requirements-teachers.txt`).
"""

from __future__ import annotations

import inspect

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_output
from nbgrader.converters import Autograde
from nbgrader.plugins import FileNameCollectorPlugin
from nbgrader.preprocessors import Execute, OverwriteCells

from descent.submissions import read_name

__all__ = ["AUTOGRADE", "PRINTED", "SANITIZE", "Collector", "ExecuteWhatRuns", "RestoreMissingCells"]

#: Characters that one cell of a submission may print.
PRINTED = 100_000


def _limit_output(limit: int) -> None:
    """Runs in the kernel of a submission: a cell that prints more than `limit` characters fails."""
    import sys

    class Limited:
        def __init__(self, stream):
            self.stream, self.left = stream, limit

        def write(self, text):
            self.left -= len(text)
            if self.left < 0:
                raise RuntimeError(f"This cell prints more than {limit:,} characters and was stopped.")
            return self.stream.write(text)

        def __getattr__(self, name):
            return getattr(self.stream, name)

    sys.stdout, sys.stderr = streams = Limited(sys.stdout), Limited(sys.stderr)
    get_ipython().events.register("pre_run_cell", lambda info: [setattr(s, "left", limit) for s in streams])  # noqa: F821


class Collector(FileNameCollectorPlugin):
    """Tells whose a collected notebook is; of what it leaves out it says why."""

    def collect(self, submitted_file):
        if not submitted_file.endswith(".ipynb"):
            return None
        try:
            return read_name(submitted_file, self.parent.coursedir.assignment_id)
        except ValueError as error:
            self.log.warning(str(error))
            return None


class ExecuteWhatRuns(Execute):
    """Runs a submission as far as its kernel lives; the cells after that are marked as not run.

    nbgrader's own gives up a submission whose kernel died or does not react to an interrupt:
    no points, no feedback.
    """

    def preprocess(self, nb, resources, **kwargs):
        self._stopped = ""
        self.on_notebook_start = self._limit
        return super().preprocess(nb, resources, **kwargs)

    def _limit(self, **_):
        self.kc.execute(f"{inspect.getsource(_limit_output)}\n_limit_output({PRINTED})\ndel _limit_output", silent=True)

    def preprocess_cell(self, cell, resources, index):
        if not self._stopped:
            try:
                return super().preprocess_cell(cell, resources, index)
            except DeadKernelError:
                self._stopped = "The kernel died in this cell or an earlier one."
            except CellTimeoutError:
                self._stopped = "This cell or an earlier one did not stop when it was interrupted."
        if cell.cell_type == "code":
            cell.outputs = [new_output("error", ename="NotRun", evalue=self._stopped, traceback=[f"NotRun: {self._stopped}"])]
        return cell, resources


class RestoreMissingCells(OverwriteCells):
    """Puts every graded cell that a submission lacks back behind the cells it followed, or at the end.

    nbgrader's own fails where the cell before the missing one is missing too.
    """

    add_missing_cells = True

    def add_missing_grade_cells(self, nb, resources):
        assignment = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        points = {cell.name: cell.max_score for cell in assignment.grade_cells}
        solutions = {cell.name for cell in assignment.solution_cells}
        before: list[str] = []
        for cell in assignment.source_cells:
            there = [c.metadata.get("nbgrader", {}).get("grade_id") for c in nb.cells]
            if cell.name in points and cell.name not in there:
                restored = self.missing_cell_transform(cell, points[cell.name], is_solution=cell.name in solutions)
                restored.id = cell.name[:64]
                if cell.name in solutions:  # without nbgrader's remark it counts as left blank, with it, it would wait for the teacher
                    restored.source = cell.source
                nb.cells.insert(max((there.index(name) + 1 for name in before if name in there), default=len(nb.cells)), restored)
            before.append(cell.name)
        return nb, resources


def _instead(preprocessors: list, own: type) -> list:
    """nbgrader's list with our class in the place of the one it extends."""
    return [own if issubclass(own, p) else p for p in preprocessors]


SANITIZE = _instead(Autograde.sanitize_preprocessors.default(), RestoreMissingCells)
AUTOGRADE = _instead(Autograde.autograde_preprocessors.default(), ExecuteWhatRuns)
