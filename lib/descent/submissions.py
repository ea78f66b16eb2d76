"""Whose notebook a file is, from the name that a student or a learning platform gave it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

__all__ = ["read_name"]

#: What stands before the assignment's name. Platforms add a number to the student's name, which keeps namesakes apart.
_BEFORE = {
    "a student's id": r"(?P<student_id>[^_]+)",
    "Moodle": r"(.+_)?(?P<student_id>[^_]+_\d+)_assignsubmission_file_?",
    "Canvas": r"(?P<student_id>[^_]+?)(_LATE)?_(?P<number>\d+)_\d+",
    "Blackboard": r".+_(?P<student_id>[^_]+)_attempt_(?P<timestamp>\d{4}(-\d\d){5})",
}
#: What browsers, systems and Canvas put after the name of a file that was there already.
_AGAIN = r"( ?\(\d+\)|-\d+| ?[-–]? ?copy( ?\(?\d+\)?)?)*"


def read_name(path: str, slug: str) -> dict[str, str]:
    """Student, assignment, and time if it is there, of a notebook that was handed in for the assignment `slug`.

    Understood are ada_<slug>.ipynb and what Moodle, Canvas and Blackboard make of <slug>.ipynb, with anything but an underscore in the
    student's name, and copies such as ada_<slug> (1).ipynb. Of Moodle's folders the folder says whose it is.

    Raises:
        ValueError: it is not the assignment's notebook, or does not say whose it is; the message says what is expected.
    """
    *folders, file = PurePosixPath(unicodedata.normalize("NFC", path).replace("\\", "/")).parts
    expected = f"expected student_{slug}.ipynb, or the name that Moodle, Canvas or Blackboard gives to {slug}.ipynb"
    if "__MACOSX" in folders or file.startswith("."):
        raise ValueError(f"{file!r} is a hidden file of the student's system, not a notebook")
    words = "[-_ ]".join(map(re.escape, slug.split("-")))
    found = re.fullmatch(rf"((?P<before>.+)_)?{words}{_AGAIN}\.ipynb", file, re.IGNORECASE)
    if not found:
        raise ValueError(f"{file!r} is not named as a notebook of {slug!r}; {expected}")
    before = found["before"] or next((f for f in reversed(folders) if re.fullmatch(_BEFORE["Moodle"], f)), "")
    if not before:
        raise ValueError(f"{file!r} does not say whose it is; {expected}")
    for pattern in _BEFORE.values():
        if match := re.fullmatch(pattern, before.strip()):
            parts = match.groupdict()
            student = "_".join(filter(None, [parts["student_id"].strip(), parts.get("number")]))
            return {"student_id": student, "file_id": slug} | ({"timestamp": parts["timestamp"]} if "timestamp" in parts else {})
    raise ValueError(f"{before!r} in {file!r} is no student's id, which has no underscore; {expected}")
