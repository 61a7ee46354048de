"""A masked language model in the files of Hugging Face: its configuration, its tokens and its weights, off a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from biotilt.errors import CheckpointError, ConfigError, one_line, suggest
from biotilt.files import read_json, read_text
from biotilt.models.hub import HUB, place_of
from biotilt.spaces import DNA, PROTEIN, RNA, Alphabet
from biotilt.tensors import load_weights

CONFIG, WEIGHTS = "config.json", "model*.safetensors"
# what the tokens of a role are called where no file says it
_USUAL = {
    "mask_token": ("<mask>", "[MASK]"),
    "cls_token": ("<cls>", "[CLS]", "<s>"),
    "bos_token": ("<bos>", "<s>"),
    "eos_token": ("<eos>", "</s>"),
    "sep_token": ("[SEP]", "</s>"),
}


@dataclass(frozen=True)
class Tokens:
    """`ids`: the number of each token; `mask`, and what stands before and after a sequence."""

    ids: Mapping[str, int]
    mask: int
    first: tuple[int, ...]
    last: tuple[int, ...]

    def letters(self, alphabet: Alphabet, where: object) -> tuple[int, ...]:
        """Return the token of each letter of an alphabet, in its order.

        Raises ConfigError where a letter has none, or there are tokens of several letters, so that a sequence is not
        read letter by letter.
        """
        found = {letter: self.ids.get(letter, self.ids.get(letter.lower())) for letter in alphabet.letters}
        if missing := [letter for letter, token in found.items() if token is None]:
            known = [other.name for other in (PROTEIN, DNA, RNA) if self._has(other)]
            raise ConfigError(
                f'{where}: its vocabulary has no token for "{missing[0]}" of {alphabet.name}'
                + (f": give alphabet = {' or '.join(map(repr, known))}".replace("'", '"') if known else "")
            )
        signs = set(alphabet.letters)
        pieces = [token for token in self.ids if len(token) > 1 and set(token.upper()) <= signs]
        if len(pieces) > len(alphabet.letters):
            raise ConfigError(
                f"{where}: it reads pieces of several letters ({', '.join(pieces[:3])} and {len(pieces) - 3} more), "
                "not single ones: a design is made letter by letter, so take a model that has one token a letter"
            )
        return tuple(token for token in found.values() if token is not None)

    def alphabet(self, name: str | None, where: object) -> Alphabet:
        """Return the alphabet called `name`, or the one that the vocabulary has; ConfigError where that is not clear.

        A vocabulary of proteins has letters of nucleotides too.
        """
        every = {known.name: known for known in (PROTEIN, DNA, RNA)}
        if name is not None:
            if name.lower() not in every:
                raise ConfigError(f'model.options.alphabet: unknown alphabet "{name}"{suggest(name, every)}')
            return every[name.lower()]
        if self._has(PROTEIN):
            return PROTEIN
        found = [known for known in (DNA, RNA) if self._has(known)]
        if len(found) != 1:
            what = "letters of DNA and of RNA" if found else "no single letters of protein, DNA or RNA"
            raise ConfigError(
                f"{where}: its vocabulary has {what}"
                + (': say which are designed, alphabet = "dna" or "rna"' if found else ", so nothing can be designed")
            )
        return found[0]

    def _has(self, alphabet: Alphabet) -> bool:
        return all(letter in self.ids or letter.lower() in self.ids for letter in alphabet.letters)


def opened(path: str) -> Path:
    """Return the folder of a model, of the hub if it is called so.

    Raises ConfigError where there is none, or it has no weights that can be read.
    """
    folder = place_of(path)
    if not folder.is_dir():
        raise ConfigError(
            f'model.options.path: "{one_line(path)}" is not a folder; give that of a model, with {CONFIG}, {WEIGHTS} '
            f"and its vocabulary, or {HUB}owner/name"
        )
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} has no {CONFIG}: is it the folder of a model of Hugging Face?")
    if not any(folder.glob(WEIGHTS)):
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        if not pickles:
            raise ConfigError(
                f"{folder} has no weights: {WEIGHTS} is not there. Where there is a pickle alone, get it yourself: "
                "biotilt convert esm pytorch_model.bin model.safetensors"
            )
        out = pickles[0].replace("pytorch_model", "model").replace(".bin", ".safetensors")
        raise ConfigError(
            f"{folder} has its weights in {pickles[0]} only, a pickle, which can run code when read. Turn it into "
            f"safetensors once: biotilt convert esm {folder / pickles[0]} {folder / out}"
        )
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a model by their names there, of one file or several; CheckpointError for a damaged one."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob(WEIGHTS)):
        part = load_weights(file)
        if twice := sorted(found.keys() & part.keys()):
            raise CheckpointError(f'{file} has "{one_line(twice[0])}", and so has another file there: remove one')
        found |= part
    return found


def tokens_of(folder: Path, config: Mapping[str, Any]) -> Tokens:
    """Return the vocabulary of a folder, and which of it stand around a sequence; ConfigError where it has none."""
    ids, rule = _vocabulary(folder)
    said = _declared(folder)

    def named(role: str) -> tuple[int, ...]:
        names = (said[role],) if role in said else () if said else _USUAL[role]
        return next(((ids[name],) for name in names if name in ids), ())

    told = config.get("mask_token_id")
    mask = named("mask_token") or ((told,) if isinstance(told, int) else ())
    mask = mask or tuple(ids[name] for name in _USUAL["mask_token"] if name in ids)
    if not mask:
        raise ConfigError(f"{folder}: its vocabulary has no mask, so it is no masked language model")
    first = named("cls_token") or named("bos_token")
    last = named("eos_token") or named("sep_token")
    if rule is not None:
        first, last = rule
    return Tokens(ids, mask[0], first, last)


Around = tuple[tuple[int, ...], tuple[int, ...]]


def _vocabulary(folder: Path) -> tuple[dict[str, int], Around | None]:
    """Return the numbers of tokens, and what stands around a sequence where the file says it."""
    rule: Around | None = None
    if (folder / "vocab.txt").is_file():
        lines = read_text(folder / "vocab.txt", error=ConfigError).splitlines()
        ids = {line.strip(): number for number, line in enumerate(lines) if line.strip()}
        if (folder / "tokenizer.json").is_file():
            rule = _around(read_json(folder / "tokenizer.json"), ids)
    elif (folder / "tokenizer.json").is_file():
        said = read_json(folder / "tokenizer.json")
        ids = _of_tokenizer(said)
        rule = _around(said, ids)
    elif (folder / "vocab.json").is_file():
        ids = _numbers(read_json(folder / "vocab.json"))
    else:
        raise ConfigError(
            f"{folder} has no vocabulary: vocab.txt, tokenizer.json or vocab.json belongs beside {CONFIG}"
        )
    if (folder / "added_tokens.json").is_file():
        ids |= _numbers(read_json(folder / "added_tokens.json"))
    return ids, rule


def _numbers(found: Any) -> dict[str, int]:
    table = found if isinstance(found, dict) else {}
    return {token: number for token, number in table.items() if isinstance(number, int)}


def _of_tokenizer(said: Any) -> dict[str, int]:
    """Return the numbers of tokens of a tokenizer.json."""
    said = said if isinstance(said, dict) else {}
    vocabulary = _table(said.get("model")).get("vocab")
    if isinstance(vocabulary, list):  # of a unigram model: pairs of token and score
        vocabulary = {str(pair[0]): number for number, pair in enumerate(vocabulary) if isinstance(pair, list) and pair}
    added = [_table(token) for token in said.get("added_tokens") or []]
    return _numbers(vocabulary) | _numbers({str(token.get("content")): token.get("id") for token in added})


def _around(said: Any, ids: Mapping[str, int]) -> Around | None:
    """Return the tokens before and after one sequence by the post-processor of a tokenizer.json, None for no such."""
    rule = _table(_table(said).get("post_processor"))
    if rule.get("type") in ("BertProcessing", "RobertaProcessing"):
        ends = [rule.get(role) for role in ("cls", "sep")]  # each a pair of token and number
        first, last = ([str(end[0])] if isinstance(end, list) and end else [] for end in ends)
    elif rule.get("type") == "TemplateProcessing":
        parts = [_table(part) for part in rule.get("single") or []]
        at = next((place for place, part in enumerate(parts) if "Sequence" in part), len(parts))
        names = [str(_table(part.get("SpecialToken")).get("id")) for part in parts]
        first, last = names[:at], names[at:]
    else:
        return None
    return tuple(ids[name] for name in first if name in ids), tuple(ids[name] for name in last if name in ids)


def _declared(folder: Path) -> dict[str, str]:
    """Return the special tokens that the files of a tokeniser name, by their role."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            for role, token in _table(read_json(folder / name)).items():
                text = token.get("content") if isinstance(token, dict) else token
                if role in _USUAL and isinstance(text, str):
                    found[role] = text
    return found


def _table(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
