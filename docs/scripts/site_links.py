"""A hook of mkdocs: links that lead out of docs/ become links to the repository."""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_TARGET = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **further: object) -> str:
    """Replaces relative links to files outside docs/ by their addresses in the repository.

    Args:
        markdown: Text of the page.
        page: The page; `page.file.src_uri` is its path below docs/.
        config: The site's configuration, of which `repo_url` is read.
        **further: Arguments of the hook that are not used.

    Raises:
        FileNotFoundError: If a link leads to a file that does not exist.
    """
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def address(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found[1]))
        if path.startswith("docs/"):
            return found[1]
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {path}, which does not exist")
        return f"{config.repo_url}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"

    return _TARGET.sub(address, markdown)
