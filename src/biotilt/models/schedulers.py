"""The chain that the scheduler of a pipeline of diffusers stands for, from its `scheduler_config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from biotilt.errors import ConfigError, one_line
from biotilt.files import read_json
from biotilt.options import build_options
from biotilt.processes import DDPM, FlowEuler

CONFIG = "scheduler/scheduler_config.json"
Variance = Literal["fixed_small", "fixed_large"]
STEPS = 50
# those of one trained chain that step otherwise; DDIM is a sampler of any of them
_OTHERS = (
    "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip
_OF_DDPM = (
    "num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "rescale_betas_zero_snr", "prediction_type",
    "timestep_spacing", "steps_offset", "clip_sample", "clip_sample_range", "set_alpha_to_one",
)  # fmt: skip
# what would change the chain, and is not known here, with the value that changes nothing
_OF_FLOW = {
    "use_dynamic_shifting": False, "invert_sigmas": False, "shift_terminal": None, "use_karras_sigmas": False,
    "use_exponential_sigmas": False, "use_beta_sigmas": False, "stochastic_sampling": False,
}  # fmt: skip


def process_of(folder: Path, size: int, variance: Variance | None = None) -> DDPM | FlowEuler:
    """Return the process of a pipeline's scheduler, for states of `size` numbers.

    `variance`: taken in place of widths that the network says. Raises ConfigError for a scheduler, or a setting of it,
    that has no chain here.
    """
    said = read_json(folder / CONFIG)
    said = said if isinstance(said, dict) else {}
    kind = str(said.get("_class_name"))
    total = said.get("num_train_timesteps", 1000)
    given: dict[str, Any] = {"size": size, "num_steps": min(STEPS, total) if isinstance(total, int) else STEPS}
    where = f"{folder / CONFIG}"
    if kind == "FlowMatchEulerDiscreteScheduler":
        for key, value in _OF_FLOW.items():
            if said.get(key) not in (None, value):
                raise ConfigError(f"{where}: {key} = {one_line(said[key])} is not known here, only {value}")
        return build_options(FlowEuler, given | _present(said, ("num_train_timesteps", "shift")), where)
    if kind not in ("DDPMScheduler", "DDIMScheduler", *_OTHERS):
        known = "DDPMScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler"
        raise ConfigError(
            f"{where}: no chain is known here for a {one_line(kind)}; save the pipeline with one of {known}, if its "
            "network was trained for that"
        )
    if said.get("thresholding"):
        raise ConfigError(f"{where}: thresholding is not known here: set it to false, and clip_sample to true")
    options = {"clip_sample": kind in ("DDPMScheduler", "DDIMScheduler")} | _present(said, _OF_DDPM)
    options["sampler"] = "ddpm" if kind == "DDPMScheduler" else "ddim"
    options["trained_betas"] = tuple(said.get("trained_betas") or ())
    if kind == "DDPMScheduler":
        options["variance_type"] = _width(str(said.get("variance_type", "fixed_small")), variance, where)
    return build_options(DDPM, given | options, where)


def _width(said: str, variance: Variance | None, where: str) -> str:
    if variance is not None:
        return variance
    if said.startswith("learned"):
        raise ConfigError(
            f'{where}: variance_type = "{said}" has widths that the network says for every pixel, and kernels here '
            'have one for the step: variance = "fixed_small" or "fixed_large" under [model] options leaves those out'
        )
    return said


def _present(said: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: said[key] for key in keys if said.get(key) is not None}
