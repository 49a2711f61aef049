"""Decoders for pretrained encoders: the encoder's own processor says what a cell must look like."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from logging import CRITICAL, getLogger
from pathlib import Path
from socket import getaddrinfo
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from huggingface_hub.constants import ENDPOINT

from absentia.data.kinds.audio import read_audio, resampled
from absentia.data.kinds.base import Array, Decoder, Kind, Value, pad
from absentia.data.kinds.image import LARGEST, read_image
from absentia.data.kinds.text import LONG, read_text
from absentia.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["PretrainedDecoder", "can_be_pretrained", "digest_of", "loading", "reach", "settings_of"]

PROCESSORS = {"image": "AutoImageProcessor", "text": "AutoTokenizer", "audio": "AutoFeatureExtractor"}
LONGEST_TEXT = 512  # tokens
LONGEST_SOUND, SHORTEST_SOUND = 30.0, 0.1  # seconds
FEW = 8  # special tokens that stand first in a vocabulary
LABELS = ("id2label", "label2id")
SAVING = ("_name_or_path", "transformers_version", "architectures", "dtype")  # weights are read as float32 anyway
LIBRARIES = ("transformers", "tokenizers")  # those that write settings down
SLIMMEST = 32  # sides as unequal as 1 : 32; a processor that fits the short side would make the long one endless


def settings_of(config: Any) -> dict[str, Any]:
    """What of a model's config decides its features beside its weights, as an activation does; not who saved it how."""
    return _without(config.to_dict(), {*LABELS, *SAVING})


def can_be_pretrained(kind: Kind) -> bool:
    """Whether a Hugging Face encoder can stand behind this kind of modality."""
    return kind.kind in PROCESSORS


class PretrainedDecoder(Decoder):
    """Cells to the arrays that the encoder at `source` (hub name or folder) takes, without a batch axis.

    before: what `prepares` gave when something was trained on this; None where that is not known.
    """

    def __init__(
        self, *, kind: str, source: str, root: Path | None = None, before: Mapping[str, Any] | None = None
    ) -> None:
        if kind not in PROCESSORS:
            raise UserError(f"a modality of kind {kind!r} takes no pretrained encoder ({source!r}); leave it away")
        self.kind, self.source, self.root, self.before = kind, source, root, before

    @cached_property
    def processor(self) -> Any:
        """The encoder's processor, loaded when first needed."""
        import transformers

        options: dict[str, Any] = {"backend": "pil"} if self.kind == "image" else {}
        with loading(self.source, f"{self.kind} processor"):
            loader = getattr(transformers, PROCESSORS[self.kind])
            processor = loader.from_pretrained(self.source, trust_remote_code=False, **options, **reach(self.source))
        if self.kind == "text" and not _has_words(processor):
            raise UserError(f"encoder {self.source!r}: its tokenizer has no words; is its vocabulary file missing?")
        return processor

    def decode(self, cell: Any) -> Value:
        made = {"image": self._image, "text": self._text, "audio": self._audio}[self.kind](cell)
        return {key: np.asarray(made[key])[0] for key in made}

    def shortened(self, cell: Any) -> bool:
        """Of a text: whether it has more words than the encoder has places, for every word is a token at least."""
        return self.kind == "text" and len(read_text(cell).split()) > self.places

    def empty(self, cell: Any) -> bool:
        return self.kind == "text" and not read_text(cell).strip()

    def collate(self, values: Sequence[Value]) -> Value:
        out = {}
        for key in values[0]:
            column = [v[key] for v in values]
            same = len({a.shape for a in column}) == 1
            out[key] = np.stack(column) if same else pad(column, self._fill(key))[0]
        if self.kind == "audio" and "attention_mask" not in out and "input_values" in out:
            out["attention_mask"] = pad([np.ones(len(v["input_values"]), np.int64) for v in values])[0]
        return out

    def blank(self) -> Value:
        """A picture of zeros, an empty text, a tenth of a second of silence."""
        if self.kind == "image":
            return {k: np.zeros_like(v) if k == "pixel_values" else v for k, v in self._blank_image().items()}
        made = self._text("") if self.kind == "text" else self._sound(np.zeros(1, np.float32))
        return {key: np.asarray(made[key])[0] for key in made}

    def state(self) -> dict[str, Any]:
        return {"pretrained": self.source, "kind": self.kind, "prepares": self.prepares()}

    def prepares(self) -> dict[str, Any]:
        """Hashes of what decides what becomes of a cell and of the model's config, and the libraries behind both."""
        libraries = {name: version(name) for name in LIBRARIES}
        config = digest_of(settings_of(self._whole_config))
        return {"sha256": digest_of(self.preprocessing()), "config": config, "libraries": libraries}

    @property
    def changed(self) -> bool:
        """Whether cells or features become something else than `before`; other libraries write the same otherwise."""
        if self.before is None:
            return False
        now = self.prepares()
        if self.before["libraries"] != now["libraries"]:
            return False
        return any(self.before.get(key, now[key]) != now[key] for key in ("sha256", "config"))

    def preprocessing(self) -> dict[str, Any]:
        """All that decides what becomes of a cell here, as JSON."""
        if self.kind == "text":
            said: dict[str, Any] = {"tokenizer": _words_of(self.processor), "max_length": self.places, "long": LONG}
        else:
            said = {"processor": self.processor.to_dict()}
        limits = {"image": [SLIMMEST, LARGEST], "text": [LONGEST_TEXT], "audio": [LONGEST_SOUND, SHORTEST_SOUND]}
        return {"kind": self.kind, "class": type(self.processor).__name__, "limits": limits[self.kind], **said}

    @property
    def _rate(self) -> int:
        return int(getattr(self.processor, "sampling_rate", 16_000))

    @cached_property
    def places(self) -> int:
        """Tokens that the encoder has places for; some count from behind the padding's number."""
        said = int(self.processor.model_max_length)
        places = getattr(self._config, "max_position_embeddings", None) or LONGEST_TEXT
        return max(1, min(LONGEST_TEXT, said if said <= places else places - _first_place(self._config)))

    @cached_property
    def _words(self) -> float:
        """Tokens that the model knows; one that reads characters knows any."""
        return getattr(self._config, "vocab_size", None) or float("inf")

    @cached_property
    def _config(self) -> Any:
        """Of the model that reads texts."""
        return self._whole_config.get_text_config()

    @cached_property
    def _whole_config(self) -> Any:
        from transformers import AutoConfig

        with loading(self.source, "config"):
            return AutoConfig.from_pretrained(self.source, trust_remote_code=False, **reach(self.source))

    def _image(self, cell: Any) -> Any:
        return self.processor(images=_stout(read_image(cell, self.root).convert("RGB")), return_tensors="np")

    def _blank_image(self) -> Value:
        from PIL import Image as Pillow

        made = self.processor(images=Pillow.new("RGB", (64, 64)), return_tensors="np")
        return {key: np.asarray(made[key])[0] for key in made}

    def _text(self, cell: Any) -> Any:
        text = read_text(cell)[: LONG * LONGEST_TEXT]
        made = self.processor([text], truncation=True, max_length=self.places, return_tensors="np")
        if not made["input_ids"].size:
            return self._no_words()
        if int(made["input_ids"].max()) >= self._words:
            raise UserError(
                f"encoder {self.source!r}: its tokenizer has words that its model ({self._words} of them) does not "
                "know; tokenizer and weights must be of one checkpoint"
            )
        return made

    def _no_words(self) -> Value:
        """An empty text for a tokenizer that puts nothing around it: the token with which texts begin or end."""
        marks = (self.processor.bos_token_id, self.processor.eos_token_id, self.processor.pad_token_id, 0)
        mark = next(int(m) for m in marks if m is not None)
        return {"input_ids": np.asarray([[mark]], np.int64), "attention_mask": np.ones((1, 1), np.int64)}

    def _audio(self, cell: Any) -> Any:
        sound, rate = read_audio(cell, self.root, seconds=LONGEST_SOUND)
        return self._sound(resampled(sound, rate, self._rate))

    def _sound(self, sound: Array) -> Any:
        short = int(SHORTEST_SOUND * self._rate) - len(sound)
        sound = np.pad(sound, (0, max(0, short)))
        return self.processor(sound, sampling_rate=self._rate, return_tensors="np")

    def _fill(self, key: str) -> float:
        return float(self.processor.pad_token_id or 0) if self.kind == "text" and key == "input_ids" else 0.0


@contextmanager
def loading(source: str, part: str) -> Iterator[None]:
    """Nothing is printed while a part of a checkpoint is loaded, and whatever is wrong with it is one `UserError`."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    if _looks_like_a_path(source) and not Path(source).is_dir():
        raise UserError(f"encoder {source!r}: there is no such folder")
    level, bars, hub = logging.get_verbosity(), logging.is_progress_bar_enabled(), getLogger("huggingface_hub")
    logging.set_verbosity(CRITICAL)
    before = hub.level
    hub.setLevel(CRITICAL)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, ValueError, RuntimeError, ImportError, LookupError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"encoder {source!r}: its {part} cannot be loaded: {first.rstrip(' .:')}; {_advice(source)}"
        ) from None
    finally:
        logging.set_verbosity(level)
        hub.setLevel(before)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def reach(source: str) -> dict[str, Any]:
    """How to load a checkpoint: from what is here alone where the hub has no address (noticed after a minute else)."""
    if Path(source).is_dir() or getproxies():
        return {}
    try:
        getaddrinfo(urlsplit(ENDPOINT).hostname, 443)
    except OSError:
        return {"local_files_only": True}
    return {}


def _advice(source: str) -> str:
    if Path(source).is_dir():
        return "the folder must hold what save_pretrained writes: config.json, model.safetensors, the processor's files"
    return f"check the name and the network, or fetch it first (hf download {source})"


def _first_place(config: Any) -> int:
    """Where a text encoder begins to count its places: RoBERTa and its kin behind the padding's small number."""
    padding = getattr(config, "pad_token_id", None)
    return padding + 1 if padding is not None and 0 <= padding < FEW else 0


def _has_words(tokenizer: Any) -> bool:
    """Beside special tokens; those that come with the class are not counted one by one (CANINE has a million)."""
    special = len(tokenizer.all_special_tokens)
    return tokenizer.vocab_size > special or len(tokenizer) > special


def _words_of(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer's rules and words, without the truncation and padding that the last call left in it."""
    if not hasattr(tokenizer, "backend_tokenizer"):
        if not tokenizer.vocab_files_names:  # all characters, or bytes, as its class says
            return {"words": tokenizer.vocab_size, "special": tokenizer.special_tokens_map}
        return {"words": tokenizer.get_vocab(), "special": tokenizer.special_tokens_map}
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules |= {"truncation": tokenizer.truncation_side, "padding": tokenizer.padding_side}
    return {"sha256": digest_of(rules)}


def _without(settings: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Settings without these, nor in those of a model's parts."""
    kept = {key: value for key, value in settings.items() if key not in names}
    return {key: _without(value, names) if isinstance(value, dict) else value for key, value in kept.items()}


def digest_of(what: Mapping[str, Any]) -> str:
    """SHA-256; what JSON does not know counts as it is written."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _looks_like_a_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.count("/") > 1


def _stout(picture: Picture) -> Picture:
    longest = SLIMMEST * min(picture.size)
    return picture.resize((min(picture.width, longest), min(picture.height, longest)))
