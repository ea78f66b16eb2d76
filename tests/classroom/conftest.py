"""A course for each test module that asks for one."""

import pytest
from courses import Course


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """`course(slug)` -> a new `Course`."""
    return lambda slug: Course(tmp_path_factory.mktemp(slug), slug)
