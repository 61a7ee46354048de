"""The one place where tensors come out of a pickle: public files of weights, read once, into safetensors."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from biotilt.errors import ConfigError, DataError, one_line, suggest
from biotilt.options import shown
from biotilt.tensors import save_tensors

DRAKES_LETTERS, DRAKES_NEIGHBOURS = 22, 30  # of its inverse folding: 20 residues, X and a mask


class Weights(NamedTuple):
    """Tensors of a public file by the names that they have there, and what else it says, as JSON holds it.

    `note`: what people should know of what was taken out of the file.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    note: str = ""


class Setting:
    """Stands for an object of somebody's settings (omegaconf): it holds what the file says of it, and does nothing."""

    state: Any = None

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def at(self, *keys: str) -> Any:
        """Return the value at the end of `keys`, None where there is none."""
        state = self.state if isinstance(self.state, Mapping) else {}
        if not keys:
            return state.get("_val")
        content = state.get("_content")
        inner = content.get(keys[0]) if isinstance(content, Mapping) else None
        return inner.at(*keys[1:]) if isinstance(inner, Setting) else None


SETTINGS = ("omegaconf.", "typing.Any", "collections.defaultdict", *(f"builtins.{kind.__name__}" for kind in (
    bool, dict, float, int, list, str, tuple,
)))  # fmt: skip
"""Names that the settings in a file may use, by how they begin. None is imported: a `Setting` stands for each."""


def restricted(path: Path, *, settings: bool = False, tables: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return what a torch file holds, by the reader that builds tensors and plain values and runs nothing else.

    With `settings` those of omegaconf are passed over too, as `Setting`. `tables`: names of somebody's kinds of dict,
    which are not imported: an ordinary one stands for each. Raises DataError, with the reason, for a file that needs
    more, is damaged, or holds no table.
    """
    try:
        names = get_unsafe_globals_in_checkpoint(str(path)) if settings else []
        stand_ins: list[Any] = [(type("Setting", (Setting,), {}), name) for name in names if name.startswith(SETTINGS)]
        stand_ins += [(OrderedDict, name) for name in tables]
        with safe_globals(stand_ins):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no file of tensors and plain values alone, so it is not read: {one_line(error)}"
        ) from error
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: holds {type(found).__name__}, not a table of weights")
    return found


def tensors_in(found: object, path: Path) -> dict[str, Tensor]:
    """Return a table of weights, checked to be one: finite floats by name; DataError otherwise."""
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: its weights are {type(found).__name__}, not a table")
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DataError(f'{path}: "{one_line(name)}" is {type(value).__name__}, not a tensor')
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DataError(f'{path}: the weights "{one_line(name)}" are not all finite')
        tensors[name] = value.detach()
    return tensors


def read_proteinmpnn(path: Path) -> Weights:
    """Return the weights of a file of ProteinMPNN: how many neighbours they read, and at which noise they learned.

    Or of the inverse folding of DRAKES, whose tuned models are a table of weights alone.
    """
    found = restricted(path)
    weights, about = found.get("model_state_dict", found), {"num_edges", "model_state_dict"}
    letters = found.get("W_s.weight")
    if isinstance(letters, Tensor) and len(letters) == DRAKES_LETTERS:
        noise, neighbours = 0.0, DRAKES_NEIGHBOURS
        note = f"{neighbours} neighbours, as the scripts of DRAKES have it: the file does not say"
    elif missing := about - found.keys():
        raise DataError(f'{path}: no file of ProteinMPNN: it has no "{min(missing)}"')
    else:
        neighbours, noise, note = int(found["num_edges"]), float(found.get("noise_level", 0.0)), ""
    tensors = tensors_in(weights, path)
    tensors.pop("W_s_ft.weight", None)  # the embedding again, for relaxed states
    return Weights(tensors, {"neighbours": neighbours, "noise": noise}, note)


def read_esm(path: Path) -> Weights:
    """Return the weights of a pytorch_model.bin of Hugging Face, ESM2, DPLM or any other: a table of nothing else."""
    return Weights(tensors_in(restricted(path), path), {})


def read_evodiff(path: Path) -> Weights:
    """Return the weights of a checkpoint of EvoDiff, without the module that several GPUs put around a network."""
    found = restricted(path)
    if "model_state_dict" not in found:
        raise DataError(f'{path}: no file of EvoDiff: it has no "model_state_dict"')
    tensors = tensors_in(found["model_state_dict"], path)
    return Weights({name.removeprefix("module."): tensor for name, tensor in tensors.items()}, {})


def read_mdlm_dna(path: Path) -> Weights:
    """Return the network of a file of MDLM on DNA: of a Lightning checkpoint, or of a table of its weights alone.

    Moving averages are returned beside the weights, as "ema." for "backbone.", where the file has them.
    """
    found = restricted(path, settings=True)
    whole = found.get("state_dict", found)
    names = list(whole) if isinstance(whole, Mapping) else []
    tensors = tensors_in({name: whole[name] for name in names if str(name).startswith("backbone.")}, path)
    if not tensors:
        raise DataError(f'{path}: no file of MDLM: nothing in it is called "backbone.…", it has {shown(names)}')
    averages = _averages(found.get("ema"), tensors, path)
    known = {
        "length": (("model", "length"), int), "time": (("time_conditioning",), bool),
        "noise": (("noise", "type"), str), "steps": (("sampling", "steps"), int),
    }  # fmt: skip
    about = _settings(found, "config", known)
    note = "the weights as trained, by which the original samples"
    note += "; their moving averages are in the file too: ema = true takes those" if averages else ""
    return Weights(tensors | averages, about, note)


def read_d3(path: Path) -> Weights:
    """Return the network of a checkpoint of D3, of Lightning or of its older format, and its moving averages."""
    found = restricted(path, settings=True)
    whole = found.get("state_dict", found.get("model"))
    if not isinstance(whole, Mapping):
        raise DataError(f'{path}: no file of D3: it has neither "state_dict" nor "model", but {shown(list(found))}')
    prefix = "score_model." if "state_dict" in found else ""
    bare = {str(name).removeprefix(prefix): value for name, value in whole.items() if str(name).startswith(prefix)}
    if not bare:
        raise DataError(f'{path}: no file of D3: nothing in it is called "score_model.…", it has {shown(list(whole))}')
    tensors = tensors_in({f"score_model.{name}": value for name, value in bare.items()}, path)
    ema = found["ema"] if "ema" in found else {"shadow_params": whole.get("ema.shadow_params")}
    averages = _averages(ema, tensors, path, "score_model.", "embed.0.W")
    known = {
        "length": (("dataset", "sequence_length"), int), "graph": (("graph", "type"), str),
        "low": (("noise", "sigma_min"), float), "high": (("noise", "sigma_max"), float),
    }  # fmt: skip
    about = _settings(found, "cfg", known)
    note = "with the moving averages of its weights, by which the original samples" if averages else ""
    return Weights(tensors | averages, about, note)


def read_genmol(path: Path) -> Weights:
    """Return the network of a checkpoint of GenMol, and its moving averages as "ema." for "backbone."."""
    found = restricted(path, settings=True)
    whole = found.get("state_dict")
    names = list(whole) if isinstance(whole, Mapping) else []
    # tied to the embedding and to a bias, and numbers that are no weights
    dropped = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "position_ids")
    kept = [str(name) for name in names if str(name).startswith("backbone.") and not str(name).endswith(dropped)]
    if not isinstance(whole, Mapping) or not kept:
        raise DataError(f'{path}: no file of GenMol: nothing in it is called "backbone.…", it has {shown(names)}')
    tensors = tensors_in({name: whole[name] for name in kept}, path)
    averages = _averages(found.get("ema"), tensors, path)
    known = {
        "heads": (("model", "num_attention_heads"), int), "eps": (("model", "layer_norm_eps"), float),
        "brackets": (("training", "use_bracket_safe"), bool),
    }  # fmt: skip
    about = _settings(found, "config", known)
    note = "with the moving averages of its weights, by which the original samples" if averages else ""
    return Weights(tensors | averages, about, note)


def _settings(
    found: Mapping[str, Any], name: str, known: Mapping[str, tuple[tuple[str, ...], type]]
) -> dict[str, Any]:  # fmt: skip
    """Return what the settings of a checkpoint say, by the keys and the type of each; a number may be a whole one."""
    hyper = found.get("hyper_parameters")
    config = hyper.get(name) if isinstance(hyper, Mapping) else None
    if not isinstance(config, Setting):
        return {}
    said = {key: config.at(*keys) for key, (keys, _) in known.items()}
    said = {key: float(value) if (known[key][1], type(value)) == (float, int) else value for key, value in said.items()}
    return {key: value for key, value in said.items() if type(value) is known[key][1]}


def _averages(
    ema: object, tensors: dict[str, Tensor], path: Path, prefix: str = "backbone.", untrained: str = "time_embedder.0.W"
) -> dict[str, Tensor]:  # fmt: skip
    """Return the moving averages of a file, which are a list in the order of the weights that are trained."""
    values = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(values, list):
        return {}
    trained = [name for name in tensors if not name.endswith(untrained)]
    if [tensors[name].shape for name in trained] != [value.shape for value in values if isinstance(value, Tensor)]:
        raise DataError(f"{path}: its moving averages are not of its {len(trained)} weights that are trained")
    return tensors_in({f"ema.{name.removeprefix(prefix)}": value for name, value in zip(trained, values)}, path)


GDSS_NETWORK = {
    "width": "nhid", "attention": "adim", "heads": "num_heads", "layers": "num_layers", "linears": "num_linears",
    "powers": "c_init", "channels": "c_hid", "last": "c_final",
}  # fmt: skip
"""What a file of GDSS calls the sizes of its networks."""


def read_gdss(path: Path) -> Weights:
    """Return both score networks of a file of GDSS, "x." nodes and "adj." edges, its moving averages and its settings.

    The settings are of a class of somebody's (`easydict.EasyDict`), which an ordinary table stands for.
    """
    found = restricted(path, tables=("easydict.EasyDict",))
    tensors, averages = dict[str, Tensor](), dict[str, Tensor]()
    for part in ("x", "adj"):
        if missing := {f"params_{part}", f"{part}_state_dict"} - found.keys():
            raise DataError(f'{path}: no file of GDSS: it has no "{min(missing)}"')
        named = tensors_in(found[f"{part}_state_dict"], path)
        named = {f"{part}.{name.removeprefix('module.')}": value for name, value in named.items()}
        tensors |= named
        averages |= _averages(found.get(f"ema_{part}"), named, path)
    try:
        about = _settings_of_gdss(found)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: its settings are not those of GDSS: {one_line(repr(error))}") from error
    note = "the weights as trained, by which the original samples"
    note += "; their moving averages are in the file too: ema = true takes those" if averages else ""
    return Weights(tensors | averages, about, note)


def _settings_of_gdss(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of its networks and of its noise; DataError for what is not known here."""
    config, nodes, edges = found["model_config"], found["params_x"], found["params_adj"]
    kinds = {"ScoreNetworkX": "gcn", "ScoreNetworkX_GMH": "attention"}
    convolutions = {edges["conv"], nodes.get("conv", "GCN")}
    if nodes["model_type"] not in kinds or edges["model_type"] != "ScoreNetworkA" or convolutions != {"GCN"}:
        raise DataError(
            f"networks {shown(nodes['model_type'])} and {shown(edges['model_type'])} of {shown(sorted(convolutions))}: "
            "known are ScoreNetworkX, ScoreNetworkX_GMH and ScoreNetworkA of GCN"
        )
    about = {"data": config["data"]["data"], "nodes": edges["max_node_num"], "features": nodes["max_feat_num"]}
    about |= {ours: edges[theirs] for ours, theirs in GDSS_NETWORK.items()}
    about |= {"depth": nodes["depth"], "by": kinds[nodes["model_type"]], "steps": config["sde"]["adj"]["num_scales"]}
    for part, said in (("node", config["sde"]["x"]), ("edge", config["sde"]["adj"])):
        if said["type"] not in ("VE", "VP"):
            raise DataError(f"noise {shown(said['type'])}: known are VE and VP")
        about[f"{part}_law"] = said["type"].lower()
        about[f"{part}_range"] = [said["beta_min"], said["beta_max"]]
    return about


READERS: dict[str, Callable[[Path], Weights]] = {
    "d3": read_d3,
    "esm": read_esm,
    "evodiff": read_evodiff,
    "gdss": read_gdss,
    "genmol": read_genmol,
    "mdlm_dna": read_mdlm_dna,
    "proteinmpnn": read_proteinmpnn,
}
"""How the public file of a family of models is read, by what `biotilt convert` calls the family."""


def convert(kind: str, path: Path, out: Path) -> Weights:
    """Write the weights of a public torch file as safetensors, under the names they have there.

    Raises ConfigError for an unknown `kind`, DataError where the file is not of that kind or would have to run code.
    """
    if kind not in READERS:
        raise ConfigError(f'nothing is known of files of "{kind}"{suggest(kind, READERS)}')
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the file to write must be called .safetensors")
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    weights = READERS[kind](path)
    save_tensors(out, weights.tensors, {"kind": f"weights of {kind}"} | weights.about)
    return weights
