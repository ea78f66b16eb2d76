"""Find a Chromium for the browser tests, or install one, and print its path.

An existing browser is preferred: the one named by the environment variable DESCENT_CHROMIUM,
then the system's, then the one Playwright keeps. If there is none it is installed, by the
system's package manager where that is allowed, otherwise by Playwright.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium that is installed, None if there is none.

    Raises:
        FileNotFoundError: DESCENT_CHROMIUM names a file that is not there.
    """
    if named := os.environ.get("DESCENT_CHROMIUM"):
        if not shutil.which(named):
            raise FileNotFoundError(f"DESCENT_CHROMIUM={named!r} is not a program; unset it or name a Chromium")
        return shutil.which(named)
    return next(filter(None, map(shutil.which, NAMES)), None) or _of_playwright()


def _of_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if path and Path(path).exists() else None


def install() -> None:
    """Install a Chromium; leave quietly if no way works."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"] if shutil.which("sudo") else None
    if shutil.which("apt-get") and root is not None:
        if _run(*root, "apt-get", "update", "-qq") and _run(*root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"):
            return
    _run(sys.executable, "-m", "playwright", "install", "chromium")


def _run(*command: str) -> bool:
    print("$", *command, file=sys.stderr)
    # What an installer says must not mix with the path on standard output.
    return subprocess.run(command, stdout=sys.stderr).returncode == 0


def main() -> int:
    path = find()
    if path is None:
        install()
        path = find()
    if path is None:
        print(
            "No Chromium was found and none could be installed. Install Chromium or Chrome, or set "
            "DESCENT_CHROMIUM=/path/to/chromium, and run this again.",
            file=sys.stderr,
        )
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
