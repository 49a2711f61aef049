"""What all pages share: one file that holds everything, needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from absentia.evaluate.wording import classes_words, short

__all__ = ["filled"]


def filled(template: str, **content: Any) -> str:
    """The page of a template in this folder.

    All texts are escaped; the page's security policy forbids every request, and every script but `page.js.j2`.
    """
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    environment.filters["counted"] = classes_words
    script = environment.get_template("page.js.j2").render()
    return environment.get_template(template).render(script=Markup(script), script_hash=_hash(script), **content)


def _hash(script: str) -> str:
    """The script's hash, by which the policy lets it run and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
