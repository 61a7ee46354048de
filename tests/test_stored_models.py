"""Files of generators and predictors: shipped ones load, damaged or hostile ones are refused in one line."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biotilt.errors import BiotiltError, CheckpointError
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.networks import NETWORKS, describe_network
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.rewards.protein.secondary import SecondaryConfig, SecondaryNet, SecondaryPredictor
from biotilt.schema import Card
from biotilt.tasks.base import TAIL
from biotilt.tensors import load_tensors, save_tensors
from biotilt.training.checkpoint import History

SHIPPED = sorted(TAIL.parent.glob("*/*.safetensors"))
LOADERS: dict[str, Callable[[Path], Any]] = {
    "generator": Model.load,
    "learned_reward": LearnedReward.load,
    "secondary_structure": SecondaryPredictor.load,
}


def metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file as it is written, checksums and all, by the layout of safetensors."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["biotilt"])


def written(path: Path, about: Any, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a file without checksums, as versions before them did; `about` may be text that is no JSON."""
    save_file(tensors, path, metadata={"biotilt": about if isinstance(about, str) else json.dumps(about)})
    return path


@pytest.fixture
def old(tiny, tmp_path) -> Callable[[str], tuple[Path, dict[str, Any], dict[str, torch.Tensor]]]:
    """Return a path to write to, the metadata without checksums, and the tensors of a good file."""

    def parts(kind: str) -> tuple[Path, dict[str, Any], dict[str, torch.Tensor]]:
        source = tiny / {"generator": "generator.safetensors", "learned_reward": "oracle.safetensors"}[kind]
        about = metadata(source)
        del about["checksums"]
        return tmp_path / "old.safetensors", about, load_file(source)

    return parts


def refused(path: Path, kind: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        LOADERS[kind](path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_files_are_read_as_they_were(path):
    """Some were written before checksums; their weights are those in the file, in float32."""
    about = metadata(path)
    load = LOADERS.get(about["kind"], lambda path: load_tensors(path)[0])
    loaded = load(path)
    if about["kind"] == "generator":
        found = loaded.policy.net.state_dict()
    elif about["kind"] in LOADERS:
        found = {f"{i}.{k}": v for i, net in enumerate(loaded.members) for k, v in net.state_dict().items()}
    else:
        found = loaded
    tensors = load_file(path)
    assert found.keys() == tensors.keys()
    for name, value in found.items():
        assert torch.equal(value, tensors[name].to(value.dtype)) and value.isfinite().all()


def test_loading_draws_random_numbers_as_building_does(tiny):
    """Runs of before must repeat bit for bit, whatever is looked at before a network is built."""
    torch.manual_seed(3)
    net = Model.load(tiny / "generator.safetensors").policy.net
    after = torch.rand(3)
    torch.manual_seed(3)
    described = describe_network(net)
    NETWORKS.of_table(described)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("kind", ["generator", "learned_reward"])
def test_files_of_before_the_checksums_are_read(old, kind):
    path, about, tensors = old(kind)
    assert LOADERS[kind](written(path, about, tensors)).space.name == "dna"
    about["alphabet"] = about.pop("codec")["alphabet"]  # as the first version did
    assert LOADERS[kind](written(path, about, tensors)).space.name == "dna"


CHANGED: list[Any] = [None, True, -1, 0, 1.5, 2**31, 2**63, 10**400, "", "x" * 5000, "\n\x00", [], [[]], {}, {"a": []}]
EXTRA: dict[str, list[Any]] = {"generator": ["network", "process", "codec"], "learned_reward": ["codec"]}


def mutations(about: dict[str, Any]) -> list[Any]:
    """Return metadata with each key, at any depth, left out or replaced by each of `CHANGED`."""
    found: list[Any] = []

    def walk(node: Any, rebuild: Callable[[Any], Any]) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:

            def put(new: Any, key: Any = key, node: Any = node, rebuild: Any = rebuild) -> Any:
                changed = node.copy()
                changed[key] = new
                return rebuild(changed)

            found.extend(put(new) for new in CHANGED)
            if isinstance(node, dict):
                found.append(rebuild({k: v for k, v in node.items() if k != key}))
            walk(value, put)

    walk(about, lambda new: new)
    return found


@pytest.mark.parametrize("kind", ["generator", "learned_reward"])
def test_whatever_metadata_say_a_file_loads_and_works_or_is_refused(old, kind):
    """Several hundred mutants of one small file: no exception but ours, and none in the first use after loading."""
    path, about, tensors = old(kind)
    mutants, refusals = mutations(about), 0
    for mutant in mutants:
        try:
            loaded = LOADERS[kind](written(path, mutant, tensors))
        except BiotiltError as error:
            refusals += 1
            assert type(error) is CheckpointError and str(path) in str(error), mutant
            assert "\n" not in str(error) and len(str(error)) < 600, mutant
        else:
            designs = loaded.sample(1) if kind == "generator" else ["ACGTACGTAC"]
            assert len(designs) == 1
            if kind == "learned_reward":
                assert len(loaded(designs)) == 1
    assert len(mutants) > 200 and 0.8 * len(mutants) < refusals < len(mutants)


NO_OBJECTS = ["", "{", "null", "[1]", '"x"', "[" * 100_000, "1" * 10_000, '{"kind": NaN}', '{"kind": ["generator"]}']


@pytest.mark.parametrize("text", NO_OBJECTS, ids=lambda text: text[:12])
def test_metadata_that_are_no_object_of_ours(old, text):
    path, _, tensors = old("generator")
    refused(written(path, text, tensors), "generator")


@pytest.mark.parametrize(
    ("part", "sizes"),
    [
        ("network", {"channels": 65_536, "blocks": 500}),
        ("network", {"length": 1_000_000}),
        ("network", {"blocks": 10**9}),
        ("network", {"dilations": [10_000] * 1000}),
        ("process", {"length": 10**12}),
        ("process", {"letters": 10**12}),
    ],
)
def test_huge_sizes_are_refused_before_memory_is_taken(old, part, sizes):
    path, about, tensors = old("generator")
    about[part] |= sizes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sizes != {"dilations": [10_000] * 1000}:  # these change no shape: one block has one dilation
        refused(written(path, about, tensors), "generator")
    else:
        Model.load(written(path, about, tensors))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


@pytest.mark.parametrize("kind", ["generator", "learned_reward"])
def test_tensors_that_do_not_fit(old, kind):
    path, about, tensors = old(kind)
    name = next(name for name in tensors if name.endswith("weight"))
    others = {k: v for k, v in tensors.items() if k != name}
    weights = "the weights do not fit the network it describes"
    assert f'{weights}: it lacks "' in refused(written(path, about, others), kind)
    more = "also holds" if kind == "generator" else 'also holds weights "more"'
    assert more in refused(written(path, about, tensors | {"more": torch.zeros(1)}), kind)
    assert "has the shape [2], not [8, " in refused(written(path, about, tensors | {name: torch.zeros(2)}), kind)
    whole = tensors[name].to(torch.int32)
    assert "is of torch.int32" in refused(written(path, about, tensors | {name: whole}), kind)


@pytest.mark.parametrize("kind", ["generator", "learned_reward"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(old, kind, value):
    path, about, tensors = old(kind)
    name = next(name for name in tensors if name.endswith("bias"))
    broken = tensors[name].clone()
    broken[-1] = value
    message = refused(written(path, about, tensors | {name: broken}), kind)
    assert "not all finite" in message and name.removeprefix("0.") in message


def test_parts_that_do_not_fit_each_other(old):
    path, about, tensors = old("generator")
    assert "length of network 10, process 9" in refused(
        written(path, about | {"process": about["process"] | {"length": 9}}, tensors), "generator"
    )
    space = {"kind": "padded", "alphabet": "dna", "length": 10, "side": "left"}
    message = refused(written(path, about | {"codec": space}, tensors), "generator")
    assert "letters of network 4, process 4, space 5" in message


def test_options_given_by_the_caller_are_not_the_files_fault(tiny):
    from biotilt.errors import ConfigError

    with pytest.raises(ConfigError, match="per_step must be in"):
        Model.load(tiny / "generator.safetensors", per_step=11)


# --- checksums ---


def test_our_files_carry_checksums_of_all_that_they_hold(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(3), "b": torch.tensor(1.5), "empty": torch.zeros(0, 2), "turned": torch.eye(3)[:2].T}
    about = {"kind": "x", "figures": [0.1, float("nan"), 10**30], "names": {"ü": None}}
    save_tensors(path, tensors, about)
    assert metadata(path)["checksums"].keys() == {"metadata", "tensors"}
    assert metadata(path)["checksums"]["tensors"].keys() == tensors.keys()
    loaded, said = load_tensors(path)
    assert json.dumps(said) == json.dumps(about) and all(torch.equal(loaded[k], v) for k, v in tensors.items())
    again = path.read_bytes()
    save_tensors(path, tensors, about)
    assert path.read_bytes() == again, "one content, one file"


def test_every_flipped_bit_of_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3], dtype=torch.int8)}, {"kind": "x"})
    good = path.read_bytes()
    start = 8 + int.from_bytes(good[:8], "little")
    for place in range(start, len(good)):
        for bit in range(8):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            with pytest.raises(CheckpointError, match=r'is damaged: the checksum of "[ab]" does not fit'):
                load_tensors(path)


def test_a_changed_description_is_noticed(tiny, tmp_path):
    content = (tiny / "generator.safetensors").read_bytes()
    changed = content.replace(rb"\"per_step\": 2", rb"\"per_step\": 1")
    assert changed != content
    (tmp_path / "g.safetensors").write_bytes(changed)
    assert "the checksum of its description does not fit" in refused(tmp_path / "g.safetensors", "generator")


@pytest.mark.parametrize("sums", [None, 3, [], {}, {"metadata": "0" * 16, "tensors": {}}, {"tensors": []}])
def test_checksums_that_are_none(old, sums):
    path, about, tensors = old("generator")
    assert "is damaged: the checksum" in refused(written(path, about | {"checksums": sums}, tensors), "generator")


def test_weights_that_half_precision_cannot_hold_are_kept_whole(tiny, tmp_path):
    model = Model.load(tiny / "generator.safetensors")
    name, weight = next(iter(model.policy.net.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = 1e6
    model.save(tmp_path / "g.safetensors", half=True)
    assert load_file(tmp_path / "g.safetensors")[name].dtype == torch.float32
    assert torch.equal(Model.load(tmp_path / "g.safetensors").policy.net.state_dict()[name], weight)


def test_predictors_of_secondary_structure(tmp_path):
    path = tmp_path / "s.safetensors"
    SecondaryPredictor([SecondaryNet(SecondaryConfig(channels=4, kernel=3, dilations=(1,)))], "s", "1").save(path)
    about, tensors = metadata(path), load_file(path)
    del about["checksums"]
    assert len(SecondaryPredictor.load(written(path, about, tensors)).members) == 1
    for config in (
        {"channels": 10**9},
        {"kernel": 4},
        {"dilations": []},
        {"dilations": [[]]},
        {"dropout": 7},
        {"x": 1},
    ):
        refused(written(path, about | {"config": [about["config"][0] | config]}, tensors), "secondary_structure")
    refused(written(path, about | {"config": []}, tensors), "secondary_structure")


# --- JSON ---


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 10_000, '{"a": 1} x', "\udcff"])
def test_json_that_is_none(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"is not (valid JSON|UTF-8)") as caught:
        read_json(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_json_of_a_schema(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[{"calls": 1, "reward": null}, {"calls": "many"}]')
    assert read_json(path)[1] == {"calls": "many"}
    with pytest.raises(CheckpointError, match=r"x\.json: 1\.calls: must be a number"):
        read_json(path, list[dict[str, float | None]])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_json(Path("a\0b"))


def test_json_files_of_runs_are_read_with_a_schema(tmp_path):
    path, row = tmp_path / "x.json", {"round": 1, "calls": 8, "seconds": 0.5, "reward": None}
    path.write_text(json.dumps([row]))
    assert read_json(path, History) == [row] and isinstance(read_json(path, History)[0]["calls"], int)
    for wrong in ({}, [3], [{"calls": 8}], [row | {"reward": "high"}], [row | {"seconds": None}]):
        path.write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError, match=r"x\.json"):
            read_json(path, History)
    for shipped in TAIL.parent.glob("*/*.safetensors"):
        card = shipped.with_suffix(".json")
        assert not card.is_file() or read_json(card, Card) == json.loads(card.read_text())
    for wrong in ([], {"measured_max": "high"}, {"kmer3_high": [1]}, {"notes": 3}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError, match=r"x\.json"):
            read_json(path, Card)
