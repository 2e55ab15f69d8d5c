"""Hooks of the documentation's build: pages and files from outside docs/, and generated tables.

- The home page is README.md; ARCHITECTURE.md and the READMEs of the kernels and of the examples for
  clusters are pages too.
- A link to a file outside docs/ works in the repository, and in the site as well: the file is
  copied below `files/`.
- A line such as `<!-- table: weights -->` is replaced by the table of that name in doc_tables.py.
"""

import os
import re
from pathlib import Path, PurePosixPath

import doc_tables
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Pages whose source lies outside docs/.
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "cluster.md": "examples/cluster/README.md",
    "internals/architecture.md": "ARCHITECTURE.md",
    "internals/kernels.md": "keras_convnext/kernels/README.md",
}
LINK = re.compile(r"(\]\(|src=\"|href=\")([^)\"#\s]+)")
TABLE = re.compile(r"^<!-- table: (\S+) -->$", re.MULTILINE)
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files, config):
    """Adds the pages and the linked files that lie outside docs/."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for file in list(files.documentation_pages()):
        for path in _linked_files(file.src_uri):
            if f"files/{path}" not in files.src_uris:
                source = str(ROOT / path)
                files.append(File.generated(config, f"files/{path}", abs_src_path=source))
    return files


def on_page_markdown(markdown, page, **_):
    """Fills in the tables and leads links to where their target is in the site."""
    markdown = TABLE.sub(lambda match: doc_tables.TABLES[match[1]](), markdown)
    pieces = FENCED.split(markdown)
    return "".join(
        piece if piece.startswith("```") else _with_links(piece, page.file.src_uri)
        for piece in pieces
    )


def _source(page: str) -> Path:
    return ROOT / PAGES[page] if page in PAGES else DOCS / page


def _linked_files(page: str) -> set[str]:
    """Returns the files outside docs/ that a page links to, by their paths in the repository."""
    text = _source(page).read_text(encoding="utf-8")
    text = TABLE.sub(lambda match: doc_tables.TABLES[match[1]](), text)
    places = (_place_in_repository(match[2], page) for match in LINK.finditer(text))
    return {
        place for place in places if place and (ROOT / place).is_file() and _page_of(place) is None
    }


def _place_in_repository(target: str, page: str) -> str | None:
    """Returns the path of a link's target in the repository; `None` for an address."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path = os.path.normpath(_source(page).parent / target)
    return PurePosixPath(os.path.relpath(path, ROOT)).as_posix()


def _page_of(place: str) -> str | None:
    """Returns the site's page or file that a path in the repository is, if it is one."""
    for page, source in PAGES.items():
        if place == source:
            return page
    return place.removeprefix("docs/") if place.startswith("docs/") else None


def _with_links(text: str, page: str) -> str:
    def lead(match):
        place = _place_in_repository(match[2], page)
        if place is None:
            return match[0]
        target = _page_of(place) or f"files/{place}"
        if match[1] == "](":
            base = PurePosixPath(page).parent
        else:  # Markdown leaves HTML alone, so this is relative to the page's address
            base = PurePosixPath(page).with_suffix("")
            base = base.parent if base.name == "index" else base
        return match[1] + PurePosixPath(os.path.relpath(target, base)).as_posix()

    return LINK.sub(lead, text)
