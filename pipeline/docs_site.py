"""MkDocs hook: links from docs/ to other files of the repository work on the site as they do on GitHub.

A page of the navigation whose path begins with `repository/` is that file of the repository, for example
`repository/knative/README.md`. Any other file that a page links to is copied to the site. MkDocs reports a link to a
file that does not exist, and a strict build fails.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = "docs/"
REPOSITORY: Final = "repository/"
"""Where the site has the files that are not in docs/."""

_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:)(?P<path>[^)\s#]+)(?=[)#\s])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source in _sources(config.nav):
        if source.startswith(REPOSITORY):
            path = ROOT / source.removeprefix(REPOSITORY)
            files.append(File.generated(config, source, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = page.file.src_uri

    def on_the_site(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(_in_repository(source)), link["path"]))
        target = _on_site(path)
        if f"{target}/README.md" in files.src_uris:
            target += "/README.md"
        elif target not in files.src_uris:
            if not (ROOT / path).is_file() or path.endswith(".md"):
                return link["path"]  # MkDocs reports it
            files.append(File.generated(config, target, abs_src_path=str(ROOT / path)))
        return posixpath.relpath(target, posixpath.dirname(source))

    return _LINK.sub(on_the_site, markdown)


def _sources(nav: Any) -> Iterator[str]:  # noqa: ANN401 - nested lists and mappings of the YAML file
    """The path of every page in the navigation."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        yield from _sources(list(nav.values()))
    else:
        for entry in nav or ():
            yield from _sources(entry)


def _in_repository(source: str) -> str:
    return source.removeprefix(REPOSITORY) if source.startswith(REPOSITORY) else DOCS + source


def _on_site(path: str) -> str:
    return path.removeprefix(DOCS) if path.startswith(DOCS) else REPOSITORY + path
