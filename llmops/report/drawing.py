"""Draw a Vega-Lite specification as SVG for the page, once for each distinct specification.

``vl_convert`` takes half a second to start and is imported only for a figure that no earlier
report drew. It gets the data in the specification and may fetch nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.files import write_text

REVISION = 2  # raise it when the same specification is drawn differently


def draw(spec: dict[str, Any], cache: Path) -> str:
    """Return ``spec`` as an SVG element that can stand inside a page, from ``cache`` if there."""
    name = digest({"revision": REVISION, "spec": spec})
    path = cache / f"{name}.svg"
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        svg = embed(_render(spec), name[:12], spec["usermeta"]["title"], spec["description"])
        write_text(path, svg)
        return svg


def _render(spec: dict[str, Any]) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))


def embed(svg: str, name: str, title: str, description: str) -> str:
    """Make a stand-alone SVG fit to stand in a page.

    Ids get ``name`` as a prefix, counted from zero, so that two figures never share a clip path
    and the same figure has the same bytes whatever was drawn before it. Name spaces go, since
    HTML needs none. The first children become its accessible title and description; the roles of
    its parts go, since the whole is one picture.
    """
    body = re.sub(r'\s+(?:xmlns(?::\w+)?|role|aria-\w+)="[^"]*"', "", svg)
    ids = dict.fromkeys(re.findall(r'\bid="([^"]+)"', body))
    for number, old in enumerate(ids):
        new = f"f{name}-{number}"
        body = body.replace(f'id="{old}"', f'id="{new}"').replace(f"url(#{old})", f"url(#{new})")
    labels = f'role="img" aria-labelledby="f{name}-t f{name}-d" class="figure"'
    texts = (
        f'<title id="f{name}-t">{_escaped(title)}</title>'
        f'<desc id="f{name}-d">{_escaped(description)}</desc>'
    )
    return re.sub(
        r"<svg\b[^>]*>",
        lambda match: f"<svg {labels} {_attributes(match.group(0))}>{texts}",
        body,
        count=1,
    )


def _attributes(tag: str) -> str:
    kept = re.findall(r'\b(?:width|height|viewBox)="[^"]*"', tag)
    return " ".join(kept)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
