"""`python -m descent.cache`: show the stored results of sweeps, or clear them."""

import argparse

from descent.cache import clear, contents


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m descent.cache", description="Show the stored results of sweeps, or clear them.")
    parser.add_argument("do", nargs="?", choices=("show", "clear"), default="show")
    parser.add_argument("--task", help="clear only results whose task's name contains this")
    parser.add_argument("--unused-days", type=float, default=0.0, metavar="DAYS", help="clear only results not used for so long")
    chosen = parser.parse_args()
    try:
        if chosen.do == "show":
            return print(contents())
        removed = clear(chosen.task, chosen.unused_days)
        print(f"removed {removed} result{'s' * (removed != 1)}")
    except ValueError as error:
        parser.error(str(error))


main()
