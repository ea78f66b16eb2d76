"""Submissions that loop, crash, print without end or lost their tests are graded for what they hold; the others do not notice."""

import html

import nbformat
import pytest
from courses import answered

pytestmark = pytest.mark.timeout(900)  # some of them wait until they are stopped
SLUG = "edge-of-stability"
FIVE = {f"{SLUG}-5-answer": "displacement = np.sqrt(2 * a / b)"}  # a right answer below the trouble
TROUBLE = {
    "loops": "while True: pass",
    "ignores-interrupts": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    "raises": "raise ValueError('no idea')",
    "dies": "import os; os._exit(1)",
    "prints-a-gigabyte": "print('x' * 10**9)",
    "prints-forever": "while True: print('x' * 1000)",
    "shadows": "gfs = check = 4.0",
}


@pytest.fixture(scope="module")
def graded(course):
    course = course(SLUG)
    release = course.notebook("release")
    for student, code in TROUBLE.items():
        course.hand_in(student, answered(release, {f"{SLUG}-3-answer": code, **FIVE}))
    without_tests = answered(release, FIVE)
    without_tests.cells = [c for c in without_tests.cells if not c.metadata.get("nbgrader", {}).get("grade")]
    course.hand_in("deleted-the-tests", without_tests)
    only_code = nbformat.from_dict(release)
    only_code.cells = [c for c in answered(release, FIVE).cells if "nbgrader" not in c.metadata]
    only_code.cells.append(nbformat.v4.new_code_cell("a, b = 0.02, 4.0\n" + FIVE[f"{SLUG}-5-answer"]))
    course.hand_in("lost-every-mark", only_code)
    rewrote_tests = answered(release, FIVE)
    for cell in rewrote_tests.cells:
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "code":
            cell.source = "100"
            cell.metadata.nbgrader.points = 100
    course.hand_in("rewrote-the-tests", rewrote_tests)
    course.hand_in("zoe", answered(release, FIVE))  # the last in the alphabet, graded after all of them
    course.grade("--Execute.timeout=20")  # an import takes some seconds on a slow machine
    return course, course.grades


def test_everybody_is_graded(graded):
    _, grades = graded
    assert set(grades) == {*TROUBLE, "deleted-the-tests", "lost-every-mark", "rewrote-the-tests", "zoe"}
    assert all(points is not None and not waits for cells in grades.values() for points, waits, _ in cells.values())


def test_the_cell_in_trouble_gets_none_and_the_rest_its_points(graded):
    _, grades = graded
    for student, cells in grades.items():
        for cell, (points, _, most) in cells.items():
            lives = student not in ("dies", "ignores-interrupts", "shadows")
            assert points == (most if cell == f"{SLUG}-5-check" and lives else 0), (student, cell)


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ("loops", "No reply from kernel before timeout"),
        ("ignores-interrupts", "did not stop when it was interrupted"),
        ("raises", "no idea"),
        ("dies", "The kernel died in this cell or an earlier one"),
        ("prints-a-gigabyte", "prints more than 100,000 characters"),
        ("prints-forever", "prints more than 100,000 characters"),
        ("shadows", "not callable"),
        ("deleted-the-tests", "was missing from the submission"),
        ("lost-every-mark", "was missing from the submission"),
    ],
)
def test_the_feedback_says_what_happened(graded, student, says):
    course, _ = graded
    page = course.feedback(student)
    assert says in html.unescape(page) and len(page) < 2e6
