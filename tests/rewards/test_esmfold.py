from __future__ import annotations

import math

import ideal_structures as ideal
import numpy as np
import pytest
import torch

from biotilt.errors import ConfigError
from biotilt.rewards.protein.esmfold import ESMFold, predicted_tm, residue_numbers
from biotilt.rewards.protein.folded import NoStructure
from biotilt.rewards.protein.folding_models import shared_folder
from biotilt.rewards.protein.pdb import read_pdb, sequence_of, split_chains
from biotilt.rewards.protein.structure import PLDDT, PTM, InterfacePTM

pytest.importorskip("biotite")
transformers = pytest.importorskip("transformers")
SEQUENCE, PARTNER = "MKTAYWGR", "ACDH"
TRUNK = {
    "num_blocks": 1, "sequence_state_dim": 32, "pairwise_state_dim": 16, "sequence_head_width": 16,
    "pairwise_head_width": 8, "position_bins": 8, "max_recycles": 1,
    "structure_module": {
        "sequence_dim": 32, "pairwise_dim": 16, "ipa_dim": 8, "resnet_dim": 8, "num_heads_ipa": 2,
        "num_qk_points": 2, "num_v_points": 2, "num_blocks": 2, "num_resnet_blocks": 1,
    },
}  # fmt: skip
VOCABULARY = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of weights as transformers writes it, of a tiny ESMFold with random weights, and the model itself."""
    torch.manual_seed(0)
    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, position_embedding_type="rotary", token_dropout=True, mask_token_id=32,
        pad_token_id=1, is_folding_model=True, vocab_list=VOCABULARY,
        esmfold_config={"trunk": TRUNK, "fp16_esm": False, "lddt_head_hid_dim": 8, "use_esm_attn_map": False},
    )  # fmt: skip
    model = transformers.EsmForProteinFolding(config).eval()
    with torch.no_grad():  # random heads of a fresh model say the same of every residue
        model.ptm_head.weight.normal_(0, 3)
        for layer in model.lddt_head:
            if hasattr(layer, "weight"):
                layer.weight.normal_(0, 1)
    path = tmp_path_factory.mktemp("esmfold")
    model.save_pretrained(path)
    return path, model


def test_a_fold_is_what_transformers_writes(tiny, tmp_path):
    path, model = tiny
    found = ESMFold(path).fold((SEQUENCE,))
    (tmp_path / "hf.pdb").write_text(model.infer_pdb(SEQUENCE))
    theirs = read_pdb(tmp_path / "hf.pdb")

    def by_name(atoms):
        return {(int(a.res_id), a.atom_name): a.coord for a in atoms}

    ours, expected = by_name(found.atoms), by_name(theirs)
    assert ours.keys() == expected.keys() and len(ours) > 50
    assert all(np.allclose(ours[key], expected[key], atol=2e-3) for key in expected)
    assert found.plddt is not None and found.plddt.std() > 1e-3
    assert np.allclose(found.plddt, theirs.b_factor[theirs.atom_name == "CA"], atol=0.006)
    with torch.no_grad():
        assert found.ptm == pytest.approx(model.infer(SEQUENCE)["ptm"].item(), abs=1e-5)
    assert found.iptm is None and found.pae.shape == (8, 8)


def test_a_complex_has_no_linker_left(tiny):
    path, model = tiny
    found = ESMFold(path).fold((PARTNER, SEQUENCE))
    assert [sequence_of(chain) for chain in split_chains(found.atoms)] == [PARTNER, SEQUENCE]
    assert found.plddt.shape == (12,) and found.pae.shape == (12, 12)
    assert found.atoms.res_id[found.atoms.chain_id == "B"].min() == 1
    joined = PARTNER + "G" * 25 + SEQUENCE
    numbers = torch.tensor([*range(29), *range(29 + 512, 37 + 512)])
    with torch.no_grad():
        output = model.infer(joined, position_ids=numbers[None])
    kept = [*range(4), *range(29, 37)]
    assert np.allclose(found.alpha_carbons, output["positions"][-1, 0, kept, 1].numpy(), atol=1e-4)
    assert np.allclose(found.plddt, output["plddt"][0, kept, 1].numpy(), atol=1e-5)
    assert np.allclose(found.pae, output["predicted_aligned_error"][0][kept][:, kept].numpy(), atol=1e-4)
    logits = output["ptm_logits"][0][kept][:, kept]
    between = torch.zeros(12, 12, dtype=torch.bool)
    between[:4, 4:] = between[4:, :4] = True
    assert found.ptm == pytest.approx(predicted_tm(logits), abs=1e-5)
    assert found.iptm == pytest.approx(predicted_tm(logits, between), abs=1e-5)
    assert abs(found.iptm - predicted_tm(logits, ~between)) > 1e-3


def test_three_chains_are_two_jumps():
    numbers, chain = residue_numbers(("MK", "A", "GG"))
    assert numbers[chain >= 0].tolist() == [0, 1, 27 + 512, 53 + 1024, 54 + 1024]
    assert chain[chain >= 0].tolist() == [0, 0, 1, 2, 2]
    assert len(chain) == 5 + 50


def test_ptm_agrees_with_transformers():
    from transformers.models.esm.openfold_utils.loss import compute_tm

    logits = torch.randn(30, 30, 64, generator=torch.Generator().manual_seed(0)) * 3
    assert predicted_tm(logits) == pytest.approx(compute_tm(logits[None]).item(), abs=1e-5)
    assert predicted_tm(logits[:5, :5]) == pytest.approx(compute_tm(logits[None, :5, :5]).item(), abs=1e-5)


def test_iptm_counts_other_chains_only():
    logits = torch.randn(5, 5, 64, generator=torch.Generator().manual_seed(1)) * 4
    chain = [0, 0, 1, 1, 1]
    d0 = 1.24 * 4 ** (1 / 3) - 1.8
    weights = [1 / (1 + ((b + 0.5) * 0.5 / d0) ** 2) for b in range(64)]  # bins of 31/62 = 0.5 Å
    best = -1.0
    for i in range(5):
        others = [j for j in range(5) if chain[j] != chain[i]]
        terms = []
        for j in others:
            law = [math.exp(v) for v in logits[i, j].tolist()]
            terms.append(sum(p * w for p, w in zip(law, weights)) / sum(law))
        best = max(best, sum(terms) / len(terms))
    ids = torch.tensor(chain)
    assert predicted_tm(logits, ids[:, None] != ids[None, :]) == pytest.approx(best, abs=1e-6)


def test_rewards_ask_for_one_chain_or_two(tiny):
    options = {"model": "esmfold", "path": str(tiny[0])}
    folder = ESMFold(tiny[0])
    assert PLDDT(**options)([SEQUENCE]) == pytest.approx([folder.fold((SEQUENCE,)).plddt.mean()])
    assert PTM(**options)([SEQUENCE]) == pytest.approx([folder.fold((SEQUENCE,)).ptm])
    both = InterfacePTM(partner=PARTNER, **options)
    assert both([SEQUENCE]) == pytest.approx([folder.fold((PARTNER, SEQUENCE)).iptm])
    assert shared_folder("esmfold", str(tiny[0])).version == folder.version


def test_what_is_no_protein_has_no_structure(tiny):
    with pytest.raises(NoStructure, match="20 residues"):
        ESMFold(tiny[0]).fold(("MKX",))
    (score,) = PLDDT(model="esmfold", path=str(tiny[0]))(["MKX"])
    assert math.isnan(score) and "20 residues" in score.reason


def test_pickles_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must hold config\.json"):
        ESMFold(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ConfigError, match=r"pytorch_model.bin is a pickle"):
        ESMFold(tmp_path)


def test_other_weights_are_another_version(tiny, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny[0], copy)
    assert ESMFold(copy).version == ESMFold(tiny[0]).version
    weights = next(copy.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert ESMFold(copy).version != ESMFold(tiny[0]).version


def test_ideal_names_are_those_of_the_alphabet():
    assert sequence_of(ideal.atoms_of("ACDEFGHIKLMNPQRSTVWY", ideal.helix(20))) == "ACDEFGHIKLMNPQRSTVWY"
