"""Pipelines of diffusers: networks and chains held against the library, and the way from loading to a tuned model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import acceptance
import numpy as np
import pipelines_of
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import biotilt
from biotilt.core import Policy, sample
from biotilt.errors import BiotiltError, CheckpointError, ConfigError
from biotilt.models.diffusers import Pipeline
from biotilt.spaces.latents import Latents
from biotilt.wiring import build_trainer

diffusers = pytest.importorskip("diffusers")
SIZE = pipelines_of.SIZE


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines_of.ddpm(tmp_path_factory.mktemp("ddpm") / "p", classes=3)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines_of.latent(tmp_path_factory.mktemp("dit") / "p")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return pipelines_of.texts(tmp_path_factory.mktemp("sd") / "p")


def flat(image: Tensor) -> Tensor:
    """Channels first, as diffusers has them, to states."""
    return image.permute(0, 2, 3, 1).flatten(1)


def chain(policy: Policy, seed: int = 3, count: int = 2) -> Tensor:
    return sample(policy, count, torch.Generator().manual_seed(seed))


def theirs_by_hand(
    scheduler: Any, steps: int, asked: Callable[[Tensor, Tensor], Tensor], noise: Tensor
) -> Tensor:  # fmt: skip
    """What the library's own loop makes of a noise `(B, C, H, W)`."""
    scheduler.set_timesteps(steps)
    x = noise
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(asked(x, t.expand(len(x))), t, x).prev_sample
    return x


def start(process: Any, shape: tuple[int, ...], seed: int = 3) -> Tensor:
    noise = process.noise(2, torch.Generator().manual_seed(seed))
    return noise.unflatten(1, (shape[1], shape[2], shape[0])).permute(0, 3, 1, 2)


def test_images_of_a_ddim_without_noise_are_the_librarys(pixels: Path) -> None:
    model = Pipeline(str(pixels), null_class=2).build().with_process(sampler="ddim", eta=0.0, num_steps=8)
    net = pipelines_of.unet(3)
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100)
    noise = start(model.policy.process, (3, SIZE, SIZE))
    for label, told in ((None, 2), ("1", 1)):
        found = chain((model if label is None else model.with_condition(label)).policy)
        wanted = theirs_by_hand(scheduler, 8, lambda x, t, c=told: net(x, t, torch.tensor([c, c])).sample, noise)
        torch.testing.assert_close(found, flat(wanted), atol=1e-4, rtol=1e-4)
        pictures = model.decode(found)
        wanted = (wanted / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        assert np.abs(np.stack(pictures) - wanted).max() < 0.51 / 255 + 1e-4


def test_latents_of_a_dit_are_the_librarys_and_so_are_images(latents: Path) -> None:
    model = Pipeline(str(latents)).build().with_process(eta=0.0, num_steps=8)
    net, vae = pipelines_of.dit(), pipelines_of.autoencoder()
    noise = start(model.policy.process, (4, SIZE, SIZE))

    def asked(x: Tensor, t: Tensor) -> Tensor:
        """Guidance of scale 2.5, of the first half of the channels: the others are widths."""
        both = net(torch.cat([x, x]), torch.cat([t, t]), torch.tensor([1, 1, 3, 3])).sample[:, :4]
        told, untold = both.chunk(2)
        return untold + 2.5 * (told - untold)

    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100, clip_sample=False)
    wanted = theirs_by_hand(scheduler, 8, asked, noise)
    told = model.with_condition("dog", guidance=1.5)
    found = chain(told.policy)
    torch.testing.assert_close(found, flat(wanted), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        images = vae.decode(wanted / 0.5 + 0.1).sample
    pictures = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.abs(np.stack(told.decode(found)) - pictures).max() < 0.51 / 255 + 1e-3
    assert told.decode(found)[0].shape == (2 * SIZE, 2 * SIZE, 3)
    assert model.conditions is not None and model.conditions.labels == ["0", "1", "2", "cat", "tabby", "dog", "owl"]


def test_the_gradient_of_a_reward_goes_through_the_decoder(latents: Path) -> None:
    space, vae = Pipeline(str(latents)).build().space, pipelines_of.autoencoder()
    assert isinstance(space, Latents)
    state = torch.randn(2, space.size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    left = space.relaxed(state)[:, :, :SIZE].mean()
    image = vae.decode(state.view(2, SIZE, SIZE, 4).permute(0, 3, 1, 2) / 0.5 + 0.1).sample
    wanted = (image[..., :SIZE].mean() + 1) / 2
    torch.testing.assert_close(left, wanted)
    ours, theirs = (torch.autograd.grad(of, state)[0] for of in (left, wanted))
    torch.testing.assert_close(ours, theirs)
    assert bool(ours.any())


def test_images_are_encoded_as_the_autoencoder_does(latents: Path) -> None:
    space, vae = Pipeline(str(latents)).build().space, pipelines_of.autoencoder()
    image = np.linspace(0, 1, 2 * SIZE * 2 * SIZE * 3, dtype=np.float32).reshape(2 * SIZE, 2 * SIZE, 3)
    with torch.no_grad():
        z = vae.encode(torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0) * 2 - 1).latent_dist.mean
    torch.testing.assert_close(space.encode([image]), flat((z - 0.1) * 0.5), atol=1e-5, rtol=1e-5)
    assert space.key(space.design_of(space.key(image))) == space.key(image)


def test_texts_are_encoded_by_the_pipelines_own_clip(texts: Path, tmp_path: Path) -> None:
    import transformers

    model = Pipeline(str(texts), prompts=("a cat", "red"), negative="bad").build()
    told = model.with_condition("a cat", guidance=0.5)
    clip = transformers.CLIPTextModel.from_pretrained(texts / "text_encoder")
    tokens = transformers.CLIPTokenizer.from_pretrained(texts / "tokenizer")(
        ["a cat", "bad"], padding="max_length", max_length=9, return_tensors="pt"
    )
    net = diffusers.UNet2DConditionModel.from_pretrained(texts / "unet")
    x = torch.randn(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cat, bad = clip(tokens.input_ids)[0]
        assert not torch.allclose(cat, bad)
        said = [net(x, torch.tensor([40, 7]), text.expand(2, -1, -1)).sample for text in (cat, bad)]
        found = told.policy.net(flat(x), torch.tensor([0.4, 0.07]))
    torch.testing.assert_close(found, flat(1.5 * said[0] - 0.5 * said[1]), atol=1e-5, rtol=1e-4)
    process: Any = model.policy.process
    assert (process.sampler, process.beta_schedule, process.set_alpha_to_one) == ("ddim", "scaled_linear", False)
    save_file({"mine": cat.contiguous(), "": bad.contiguous()}, tmp_path / "e.safetensors")
    given = Pipeline(str(texts), embeddings=str(tmp_path / "e.safetensors")).build()
    again = given.with_condition("mine", guidance=0.5).policy.net(flat(x), torch.tensor([0.4, 0.07]))
    torch.testing.assert_close(again, found)
    assert torch.equal(chain(given.policy), chain(model.policy))  # told nothing: the text of no condition


SPREAD = "float(d[:, :4].mean() - d[:, 4:].mean())"


@pytest.mark.slow
def test_the_whole_way_of_a_user(latents: Path, tmp_path: Path) -> None:
    (tmp_path / "p").symlink_to(latents)
    keys = (
        'source = "diffusers"\noptions = { path = "p" }\nprocess = { num_steps = 4 }\ncondition = "owl"\nguidance = 0.5'
    )
    designs = acceptance.check(keys, tmp_path, score=SPREAD)
    assert {design.shape for design in designs} == {(2 * SIZE, 2 * SIZE, 3)}


def test_the_example_and_the_page(tmp_path: Path) -> None:
    """The example tunes a pipeline that is put beside it, and so does what the page says, by another reward."""
    root = Path(__file__).parents[2]
    pipelines_of.ddpm(tmp_path / "pipeline")
    for name in ("taste.py", "taste.toml"):
        (tmp_path / name).write_text((root / "examples/images" / name).read_text())
    small = ["model.process.num_steps=2", "train.max_calls=8", "train.batch=8"]
    page = (root / "docs/images.md").read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "page.toml").write_text(page.replace("my-pipeline", "pipeline"))
    for name in ("taste.toml", "page.toml"):
        experiment = biotilt.Experiment.load(tmp_path / name, overrides=small)
        trainer = build_trainer(experiment, None)
        trainer.run()
        assert trainer.history[-1]["calls"] == 8


def test_a_folder_is_named_as_other_models_are(pixels: Path, tmp_path: Path) -> None:
    model = biotilt.Model.pretrained(str(pixels), null_class=2).with_process(num_steps=2)
    assert model.sample(1)[0].shape == (SIZE, SIZE, 3)
    layers = model.with_lora(rank=2, targets=("to_q", "conv1"))
    changed = [name for name, tensor in layers.policy.net.named_parameters() if tensor.requires_grad]
    assert any("conv1" in name for name in changed) and any("to_q" in name for name in changed)
    layers.save(tmp_path / "m.safetensors")
    assert np.array_equal(biotilt.load_model(tmp_path / "m.safetensors").sample(1)[0], model.sample(1)[0])


def test_flow_matching(tmp_path: Path) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)
    pipelines_of.written(tmp_path / "p", unet=pipelines_of.unet(), scheduler=scheduler)
    model = Pipeline(str(tmp_path / "p")).build().with_process(eta=0.0, num_steps=6)
    noise, net = start(model.policy.process, (3, SIZE, SIZE)), pipelines_of.unet()
    scheduler.set_timesteps(6)
    x = noise
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t.expand(2)).sample, t, x).prev_sample
    torch.testing.assert_close(chain(model.policy), flat(x), atol=1e-4, rtol=1e-4)


def rewritten(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        said = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(said | changes))

    return change


SCHEDULER = "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), r"has no model_index\.json: is it one part"),
        (rewritten("model_index.json", unet=["diffusers", "UNet3DConditionModel"]), "UNet3DConditionModel, and those"),
        (rewritten("model_index.json", unet=[None, None]), "no unet and no transformer"),
        (rewritten(SCHEDULER, _class_name="EDMEulerScheduler"), "no chain is known here for a EDMEulerScheduler"),
        (rewritten(SCHEDULER, thresholding=True), "thresholding is not known"),
        (rewritten(SCHEDULER, variance_type="learned_range"), 'variance = "fixed_small" or'),
        (rewritten(SCHEDULER, beta_schedule="sigmoid"), "beta_schedule"),
        (rewritten(SCHEDULER, prediction_type="flow_prediction"), "prediction_type"),
        (rewritten(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler", use_karras_sigmas=True), "use_karras"),
        (rewritten("unet/config.json", class_embed_type="timestep"), "wants more than states"),
        (rewritten("unet/config.json", sample_size=None), "does not say how large"),
        (rewritten("unet/config.json", in_channels=2), "cannot build|1, 3 or 4 colours"),
        (lambda folder: next((folder / "unet").glob("*.safetensors")).unlink(), "cannot build a UNet2DModel"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    change(pipelines_of.ddpm(tmp_path / "p"))
    with pytest.raises((ConfigError, CheckpointError), match=said):
        Pipeline(str(tmp_path / "p")).build()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompts": ("a",)}, "told classes and no texts"),
        ({"null_class": 7}, "7 of 3 classes"),
        ({"path": "nowhere"}, '"nowhere" is not a folder'),
        ({"prompts": ("a",), "embeddings": "e"}, "leave out prompts"),
    ],
)
def test_options_that_do_not_fit(pixels: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Pipeline(**({"path": str(pixels)} | options)).build()


def test_a_class_is_needed_where_none_stands_for_no_class(pixels: Path) -> None:
    model = Pipeline(str(pixels)).build()
    with pytest.raises(BiotiltError, match="needs a condition"):
        model.sample(1)
    assert model.with_process(num_steps=1).with_condition("2").sample(1)[0].shape == (SIZE, SIZE, 3)


def test_widths_that_were_learned_are_left_out_when_told_so(tmp_path: Path) -> None:
    rewritten(SCHEDULER, variance_type="learned_range")(pipelines_of.ddpm(tmp_path / "p"))
    process: Any = Pipeline(str(tmp_path / "p"), variance="fixed_large").build().policy.process
    assert process.variance_type == "fixed_large"
