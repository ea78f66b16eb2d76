"""Settings that every test shares: no cached results, no progress bars, one thread."""

import os

os.environ.setdefault("DESCENT_CACHE", "off")
os.environ.setdefault("DESCENT_PROGRESS", "off")
os.environ.setdefault("OMP_NUM_THREADS", "1")
