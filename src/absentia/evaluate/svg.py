"""What makes a matplotlib figure fit to live inside a page: no hidden weight, and the page's colours and font."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "to_svg"]

COLOURS = {
    "ink": "#1b1f24",
    "soft": "#59616b",
    "line": "#dedad0",
    "card": "#fffffe",
    "method": "#0072b2",
    "reference": "#d55e00",
    "third": "#007a5a",
    "fourth": "#7b4fa0",
}
"""Colours of figures; in a page each follows the style's variable of that name."""

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["line"],
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": COLOURS["soft"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.8,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "absentia",  # the same report, the same bytes
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # a name with two dollar signs is a name
    "xtick.color": COLOURS["soft"],
    "xtick.major.pad": 6,
    "xtick.major.size": 0,
    "ytick.color": COLOURS["soft"],
    "ytick.major.pad": 6,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
NUMBER = re.compile(r"-?\d+\.\d+")
URL = re.compile(r"url\(#([^)]+)\)")


def to_svg(draw: Callable[[Axes], None], *, name: str, size: tuple[int, int] = (395, 270)) -> Markup:
    """The `<svg>` element of one figure, `size` in CSS pixels; `name` keeps its ids apart from other figures'."""
    file = io.BytesIO()
    with rc_context(STYLE), warnings.catch_warnings():
        # The reader's browser has fonts for letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    root = ET.fromstring(file.getvalue())
    _lighten(root, name)
    return Markup(ET.tostring(root, encoding="unicode"))


def _lighten(root: ET.Element, name: str) -> None:
    for parent in root.iter():
        for child in [child for child in parent if child.tag.endswith(("metadata", "style"))]:
            parent.remove(child)
    wanted = _referenced(root)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.tail = None
        if node.tag != "text":
            node.text = None
        kept = {key.rpartition("}")[2]: value for key, value in node.items() if key != "id" or value in wanted}
        node.attrib.clear()
        node.attrib.update({key: _attribute(key, value, name) for key, value in kept.items()})
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")  # the figure around it carries the words


def _referenced(root: ET.Element) -> set[str]:
    """The ids that something in the figure points to."""
    attributes = [item for node in root.iter() for item in node.items()]
    clips = {found for _, value in attributes for found in URL.findall(value)}
    return clips | {value[1:] for key, value in attributes if key.endswith("href")}


def _attribute(key: str, value: str, name: str) -> str:
    """One attribute: ids with the figure's name, two decimals, colours and fonts that follow the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-").replace("'DejaVu Sans'", "var(--sans, sans-serif)")
    for colour, code in COLOURS.items():
        value = value.replace(code, f"var(--{colour}, {code})")
    return NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
