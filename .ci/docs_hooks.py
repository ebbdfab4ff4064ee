"""What the site needs and mkdocs does not do by itself.

* Pages that stand elsewhere in the repository (the map of the C files, the changelog) are part of
  the site; they are not copied, so that there is one text.
* A link to a file outside of docs/ works where the repository is read. The site does not have that
  file: its name is left as text.
* A public name that neither page of the reference lists is added to the API, so that none is missing.
* The help of every command stands in the command line's reference, as the program prints it.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

# Files of the repository that are pages of the site.
PAGES = {
    "README.md": "overview.md",
    "csrc/README.md": "internals/c-files.md",
    "CONTRIBUTING.md": "internals/contributing.md",
    "CHANGELOG.md": "reference/changelog.md",
}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
MORE = "<!-- public names that stand on no page are put here -->"
HELP = "<!-- the help of every command is put here -->"


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        with open(source, encoding="utf-8") as file:
            files.append(File.generated(config, page, content=file.read()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    here = page.file.src_uri
    sources = {target: source for source, target in PAGES.items()}
    folder = posixpath.dirname(sources.get(here, "docs/" + here))

    def relink(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if path in PAGES:
            path = "docs/" + PAGES[path]
        if path.startswith("docs/"):
            inside = path.removeprefix("docs/")
            if files.get_file_from_path(inside) is None and os.path.isdir(path):
                return text
            return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor})"
        if os.path.exists(path):
            return text
        return match[0]  # broken: mkdocs complains

    if HELP in markdown:
        markdown = markdown.replace(HELP, _help())
    markdown = markdown.replace(MORE, _more() if MORE in markdown else "")
    # Code is left alone: what looks like a link there is none.
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`(?!\]))", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(relink, part) for part in parts)


def _more() -> str:
    import cowfreeze

    listed = set()
    for page in ("api", "report"):
        with open(f"docs/reference/{page}.md", encoding="utf-8") as file:
            listed |= set(re.findall(r"^::: cowfreeze\.(\w+)$", file.read(), re.M))
    names = sorted(set(cowfreeze.__all__) - listed)
    return "\n\n".join(["## More", *(f"::: cowfreeze.{name}" for name in names)]) if names else ""


def _help() -> str:
    os.environ["COLUMNS"] = "100"
    from cowfreeze.cli import COMMANDS, build_parser

    parser = build_parser()
    verbs = next(a for a in parser._actions if isinstance(a.choices, dict)).choices
    text = f"## cowfreeze\n\n```text\n{parser.format_help()}```\n"
    for command in COMMANDS:
        text += f"\n## cowfreeze {command.name}\n\n```text\n{verbs[command.name].format_help()}```\n"
    return text
