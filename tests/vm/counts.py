# SPDX-License-Identifier: GPL-2.0-or-later
"""Count what the guest left in its result directory: counts.py DIRECTORY

The story is one test, the kernel's health is another. A guest that did not come so far has
failed them. The last line printed is the sum.
"""

import pathlib
import sys

from lab.summary import Count, count_pytest


def read(path):
    return path.read_text(errors="replace").strip() if path.exists() else ""


def check(name, good):
    if not good:
        print(f"FAILED: {name}")
    return Count(passed=1) if good else Count(failed=1)


def count_story(result):
    """If asked for: it must have come true, and with the kernel's ESP."""
    if "story=1" not in read(result / "parameters").splitlines():
        return Count()
    good = read(result / "story.status") == "0"
    return check("the story", good and "kernel ESP" in read(result / "story.txt"))


def count_kernel(result):
    """The kernel did not warn, and nothing made it unsound."""
    before, after = read(result / "tainted.before"), read(result / "tainted.after")
    return check("the kernel stayed sound", before != "" and before == after)


def main(directory):
    result = pathlib.Path(directory)
    total = count_story(result) + count_kernel(result) + count_pytest(result / "pytest.xml")
    print(total)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
