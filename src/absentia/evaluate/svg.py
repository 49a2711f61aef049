"""What makes a matplotlib figure fit to live inside the page: no hidden weight, and the page's own colours and font."""

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

__all__ = ["COLOURS", "STYLE", "to_svg"]

COLOURS = {"ink": "#1b1f24", "soft": "#59616b", "line": "#dedad0", "card": "#fffffe", "method": "#0072b2",
           "reference": "#d55e00", "third": "#009e73", "fourth": "#8a5fa8"}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "absentia", "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["soft"], "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "axes.formatter.useoffset": False,
    "axes.unicode_minus": True, "grid.color": COLOURS["line"], "grid.linewidth": 0.8, "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["soft"], "ytick.color": COLOURS["soft"], "xtick.major.size": 0, "ytick.major.size": 0,
    "xtick.major.pad": 6, "ytick.major.pad": 6, "legend.frameon": False, "legend.fontsize": 11, "legend.handlelength": 2.4,
    "figure.facecolor": "none", "axes.facecolor": "none"}
NUMBERS = re.compile(r"-?\d+\.\d+")


def to_svg(draw: Callable[[Axes], None], *, name: str, size: tuple[int, int] = (430, 285)) -> Markup:
    """The `<svg>` element of one figure, `size` in CSS pixels; `name` keeps its ids apart from those of other figures."""
    file = io.BytesIO()
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has fonts that matplotlib lacks
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(file.getvalue())
    _lighten(root, name)
    return Markup(ET.tostring(root, encoding="unicode"))


def _lighten(root: ET.Element, name: str) -> None:
    for parent in root.iter():
        for child in [child for child in parent if child.tag.endswith(("metadata", "style"))]:
            parent.remove(child)
    wanted = set(re.findall(r"url\(#([^)]+)\)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    wanted |= {value[1:] for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")}
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.tail = None
        if node.tag != "text":
            node.text = None
        attributes = {key.rpartition("}")[2]: value for key, value in node.attrib.items()}
        node.attrib.clear()
        node.attrib.update({key: _attribute(key, value, name) for key, value in attributes.items()
                            if key != "id" or value in wanted})
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")  # the figure around it carries the words


def _attribute(key: str, value: str, name: str) -> str:
    """One attribute: ids with the figure's name, two decimals, colours and fonts that follow the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-").replace("'DejaVu Sans'", "var(--sans, sans-serif)")
    for colour, code in COLOURS.items():
        value = value.replace(code, f"var(--{colour}, {code})")
    return NUMBERS.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
