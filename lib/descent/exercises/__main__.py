"""Print the digest under which a choice is stored: `python -m descent.exercises slug/1 "the answer"`."""

import sys

from descent.exercises import digest

if len(sys.argv) != 3:
    sys.exit(__doc__)
print(digest(sys.argv[1], sys.argv[2]))
