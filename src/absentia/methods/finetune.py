"""Sequential fine-tuning: each session trains backbone and classifier further, as if there had been nothing before.

The lower bound of continual learning; with all classes in the loss it forgets by predicting the newest ones
(catastrophic forgetting: McCloskey & Cohen 1989).
"""

from __future__ import annotations

from absentia.methods.continual import Continual

__all__ = ["Finetune"]


class Finetune(Continual):
    """Everything learns on the session's rows alone, by cross-entropy over all classes seen so far."""

    name = "finetune"
