"""Builds the sdist and the wheel into dist/, with a README whose links work on a package index.

    python .ci/build_package.py https://github.com/OWNER/NAME

A package index shows the README without the repository, so links and pictures become absolute
addresses below `ADDRESS/blob/vVERSION/` and `ADDRESS/raw/vVERSION/`. Without an address they stay
relative. Needs `pip install build`.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)\)")


def with_absolute_links(text: str, address: str, version: str) -> str:
    """Returns Markdown whose relative links and pictures lie below a repository's address."""

    def absolute(match):
        is_picture, title, target = match.groups()
        view = "raw" if is_picture else "blob"
        return f"{is_picture}[{title}]({address.rstrip('/')}/{view}/v{version}/{target})"

    return LINK.sub(absolute, text)


def main() -> None:
    """Copies the committed files, rewrites the README there, and builds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="of the public repository")
    arguments = parser.parse_args()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "keras_convnext/__init__.py").read_text())
    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        for name in filter(None, files.split("\0")):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        readme = Path(folder, "README.md")
        if arguments.address:
            readme.write_text(
                with_absolute_links(readme.read_text(), arguments.address, version[1])
            )
        command = [sys.executable, "-m", "build", "--outdir", ROOT / "dist", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
