"""What the site needs beyond docs/: pages that lie elsewhere in the repository, and links to them.

The Markdown files are written to be read in the repository, where a page of docs/ links to
`../benchmarks/results.md`. On the site every page lies under one root. The hooks therefore bring
the pages of `OUTSIDE` in, and rewrite the links that leave docs/. A link to a file that is no page
(source code) becomes plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
OUTSIDE = (
    "benchmarks/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "src/reward_router/artifacts/*/CARD.md",
)
"""Pages outside docs/ that the site shows, at the same path."""

LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.S | re.M)


def outside_pages() -> list[str]:
    """Paths, relative to the repository, of the pages that lie outside docs/."""
    return sorted(str(path.relative_to(ROOT)) for pattern in OUTSIDE for path in ROOT.glob(pattern))


def on_files(files: Files, config) -> Files:
    """Add the pages that lie outside docs/."""
    for path in outside_pages():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Rewrite links as they are in the repository to links as they are on the site."""
    source = page.file.src_uri
    in_repository = source if source in outside_pages() else f"docs/{source}"
    known = {file.src_uri for file in files}
    parts = []
    end = 0
    for fence in FENCE.finditer(markdown):  # what stands in a code block is no link
        parts.append(rewritten(markdown[end : fence.start()], in_repository, source, known))
        parts.append(fence.group())
        end = fence.end()
    parts.append(rewritten(markdown[end:], in_repository, source, known))
    return "".join(parts)


def rewritten(text: str, in_repository: str, on_site: str, known: set[str]) -> str:
    """Text whose links lead from `on_site` to the pages that they name from `in_repository`."""

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), target))
        if path == "README.md":
            path = "docs/index.md"
        if path == "docs/adr":
            path = "docs/adr/index.md"
        page = path.removeprefix("docs/")
        if page not in known:
            exists = (ROOT / path).exists()
            return label if exists else match.group()  # a broken link stays, and fails the build
        return f"[{label}]({posixpath.relpath(page, posixpath.dirname(on_site) or '.')}{anchor})"

    return LINK.sub(link, text)
