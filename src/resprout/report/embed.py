"""Putting things into a page so that nothing in them can become part of it."""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# JSON's own escapes of what HTML or a script could take for its own.
_LONG_NUMBER = re.compile(r"(?<!scale\()-?\d+\.\d{3,}(?![\d\w])")
_UNSEEN = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|(?<=\n)[ \n]+", re.DOTALL)
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def templates() -> Environment:
    """The pages' templates: every value is escaped, and one that is missing is an error."""
    return Environment(
        loader=PackageLoader("resprout.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def script_json(values: Any) -> Markup:
    """JSON for a `<script type="application/json">`: ASCII, and without `<`, `>` and `&`.

    So `</script>`, `<!--` and U+2028 stand in it as escapes, which JSON.parse turns back.

    Raises:
        ValueError: a number that is not finite; JSON has no word for it.
    """
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)


def page_script(environment: Environment, names: Sequence[str]) -> str:
    """The page's own program, whole: each file in a scope of its own."""
    loader = environment.loader
    assert loader is not None
    sources = [loader.get_source(environment, name)[0] for name in names]
    return "".join(f"(() => {{\n{source}}})();\n" for source in sources)


def script_digest(script: str) -> str:
    """A script as a content security policy names it: only this one runs, none put in by a text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _shortened(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def inline_svg(path: Path, name: str) -> Markup:
    """A chart as an <svg> element: our own drawing, its texts are outlines, so safe as it is.

    It is made smaller without loss to the eye: places to a hundredth of a point, short identifiers,
    no comments. Identifiers are made the chart's own: several drawings share one page.
    """
    svg = path.read_text("utf-8")
    svg = _LONG_NUMBER.sub(_shortened, svg[svg.index("<svg") :])
    svg = _UNSEEN.sub("", svg).replace("DejaVuSans-", "")
    own = f"{zlib.crc32(name.encode()):x}-"
    for marker in ('id="', 'xlink:href="#', "url(#"):
        svg = svg.replace(marker, f"{marker}{own}")
    described = f'<svg role="img" aria-label="{name.replace("_", " ")}"'
    return Markup(svg.replace("<svg", described, 1))
