"""How nbgrader makes and grades the assignments of a Descent course; `make classroom` copies it into the course's folder."""

import os

from descent import classroom

c = get_config()  # noqa: F821  (nbgrader defines it)

c.CourseDirectory.course_id = "descent"

# What a student finds where the source has a solution.
c.ClearSolutions.code_stub = {"python": "# your code here"}
c.ClearSolutions.text_stub = "*Your answer: what you expected, what you did, what you saw, what you conclude.*"

# Collected files are named student_slug.ipynb, as in ada_edge-of-stability.ipynb, or as learning platforms name them.
c.ZipCollectApp.collector_plugin = classroom.Collector

# Seconds that one cell may take. The reference solutions need less than ten.
c.Execute.timeout = 120
c.Autograde.sanitize_preprocessors = classroom.SANITIZE
c.Autograde.autograde_preprocessors = classroom.AUTOGRADE

# Progress bars go to stderr, for which nbgrader gives no points. One core for each submission.
os.environ |= {"DESCENT_PROGRESS": "off", "DESCENT_CACHE": "off", "OMP_NUM_THREADS": "1"}
