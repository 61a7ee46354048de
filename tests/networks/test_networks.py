"""Reference networks: shapes, what they may depend on, and tables against hand computation."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig, cnn
from biotilt.networks.cnn import fourier_features
from biotilt.networks.table import StateTable, Table


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_table_looks_up_the_row_of_step_and_state():
    logits = torch.arange(5 * 3 * 3, dtype=torch.float64).reshape(5, 3, 3)
    out = Table(3, 5, logits)(torch.tensor([2, 0, 1], dtype=torch.int8), torch.tensor([1.0, 0.8, 0.2]))
    # steps 0, 1 and 4; rows start at 9 k + 3 x
    assert out.tolist() == [[6, 7, 8], [9, 10, 11], [39, 40, 41]]
    assert out.dtype == torch.float64


@pytest.mark.parametrize("horizon", [3, 7, 49, 1000])
def test_table_finds_every_step_from_its_rounded_time(horizon):
    logits = torch.arange(horizon).float().view(-1, 1, 1).expand(horizon, 2, 2)
    k = torch.arange(horizon)
    assert Table(2, horizon, logits)(torch.zeros_like(k), 1 - k / horizon)[:, 0].tolist() == k.tolist()


def test_table_starts_uniform_and_learns_only_the_rows_it_saw():
    table = Table(3, 2)
    table(torch.tensor([1]), torch.tensor([0.5])).log_softmax(-1)[0, 2].backward()
    assert table.logits.grad is not None
    assert table.logits.grad.nonzero()[:, :2].unique(dim=0).tolist() == [[1, 1]]
    assert (table.logits == 0).all()


def test_tables_own_their_logits_and_refuse_other_shapes():
    logits = torch.zeros(2, 3, 3)
    table = Table(3, 2, logits)
    logits += 1
    assert (table.logits == 0).all()
    with pytest.raises(ValueError, match=r"shape \(4, 3, 3\), got \(2, 3, 3\)"):
        Table(3, 4, logits)
    with pytest.raises(ValueError, match=r"shape \(9, 2, 2\), got \(8, 2, 2\)"):
        StateTable(2, 2, torch.zeros(8, 2, 2))


def test_state_table_holds_the_conditionals_of_a_joint():
    """Joint of two letters: p(00) = .1, p(01) = .2, p(10) = .3, p(11) = .4; mask = 2."""
    table = StateTable.of_joint(torch.tensor([0.1, 0.2, 0.3, 0.4]), letters=2, length=2)
    x = torch.tensor([[2, 2], [2, 1], [0, 2]], dtype=torch.int8)
    p = table(x, torch.zeros(3)).softmax(-1)
    torch.testing.assert_close(p[0], torch.tensor([[0.3, 0.7], [0.4, 0.6]]))
    torch.testing.assert_close(p[1, 0], torch.tensor([1 / 3, 2 / 3]))
    torch.testing.assert_close(p[2, 1], torch.tensor([1 / 3, 2 / 3]))


def networks() -> list[torch.nn.Module]:
    return [
        MLP(MLPConfig(letters=4, length=9, width=16)),
        CNN(CNNConfig(letters=4, length=9, channels=8, blocks=2, kernel=3)),
        CNN(CNNConfig(letters=4, length=9, channels=8, blocks=2, kernel=3, time=True)),
        MLP(MLPConfig(letters=4, length=9, width=16, time=True)),
    ]


NAMES = ["mlp", "cnn", "cnn with time", "mlp with time"]


@pytest.mark.parametrize("which", range(4), ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_have_a_row_for_every_position_and_train_every_weight(which, dtype):
    torch.manual_seed(0)
    net = networks()[which].to(dtype)
    x = torch.randint(5, (3, 9), generator=generator(1), dtype=torch.int8)
    out = net(x, torch.tensor([1.0, 0.5, 0.0]))
    assert out.shape == (3, 9, 4) and out.dtype == dtype
    out.log_softmax(-1)[..., 1].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(("which", "told"), [(0, False), (1, False), (2, True), (3, True)])
def test_only_a_network_with_time_depends_on_it(which, told):
    torch.manual_seed(0)
    net, x = networks()[which], torch.full((2, 9), 4, dtype=torch.int8)
    out = net(x, torch.tensor([1.0, 0.3])).detach()
    # rows of a batch may differ by rounding: equal would not tell
    assert torch.allclose(out[0], out[1], atol=1e-5) is not told


@pytest.mark.parametrize("which", range(4), ids=NAMES)
def test_rows_of_a_batch_do_not_mix(which):
    torch.manual_seed(0)
    net, t = networks()[which], torch.tensor([0.2, 0.9])
    x = torch.randint(5, (2, 9), generator=generator(2), dtype=torch.int8)
    together, alone = net(x, t), torch.cat([net(x[:1], t[:1]), net(x[1:], t[1:])])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("told", [False, True])
def test_rows_that_go_through_by_a_few_are_the_same(told, monkeypatch):
    torch.manual_seed(0)
    net = CNN(CNNConfig(letters=4, length=9, channels=8, blocks=2, kernel=3, time=told, conditions=3 * told))
    x = torch.randint(5, (5, 9), generator=generator(2), dtype=torch.int8)
    shown = (x, torch.linspace(0, 1, 5), *([torch.tensor([2, 0, 1, 2, 0])] if told else []))
    expected = net(*shown).detach()
    monkeypatch.setattr(cnn, "NEAR", 2 * 9 * 8)  # two rows, two, and one
    with torch.no_grad():
        torch.testing.assert_close(net(*shown), expected)


def test_a_mask_is_told_from_every_letter():
    torch.manual_seed(0)
    x = torch.arange(5, dtype=torch.int8).unsqueeze(-1).repeat(1, 9)
    for net in networks():
        out = net(x, torch.zeros(5)).detach()
        assert len(out.flatten(1).unique(dim=0)) == 5


def test_fourier_features_by_hand():
    """Frequencies run from 1 to 1000: for six features 1, √1000, 1000."""
    features = fourier_features(torch.tensor([0.2]), 6)[0].tolist()
    angles = [0.2, 0.2 * math.sqrt(1000), 200.0]
    assert features == pytest.approx([math.sin(a) for a in angles] + [math.cos(a) for a in angles], abs=1e-4)


@pytest.mark.parametrize("which", range(4), ids=NAMES)
def test_relaxed_letters_are_read_as_tokens_are_and_pass_gradients(which):
    torch.manual_seed(0)
    net, t = networks()[which], torch.tensor([0.2, 0.9])
    x = torch.randint(5, (2, 9), generator=generator(3), dtype=torch.int8)
    relaxed = torch.eye(5)[x.long()].requires_grad_()
    torch.testing.assert_close(net(relaxed, t), net(x, t))
    net(relaxed, t)[..., 1].sum().backward()
    assert relaxed.grad is not None and (relaxed.grad.abs().sum(-1) > 0).all()
    letters = x.clamp(max=3)
    torch.testing.assert_close(net(torch.eye(4)[letters.long()], t), net(letters, t))


def test_tables_mix_the_probabilities_of_relaxed_states():
    """Three quarters of state 0 and a quarter of state 2; and two positions mixed, word by word."""
    table = Table(3, 2, torch.randn(2, 3, 3, generator=generator(4)))
    rows = table.logits[1].softmax(-1)
    out = table(torch.tensor([[0.75, 0.0, 0.25]]), torch.tensor([0.5])).exp()
    torch.testing.assert_close(out[0], 0.75 * rows[0] + 0.25 * rows[2])

    words = StateTable(2, 2, torch.randn(9, 2, 2, generator=generator(5)))
    x = torch.tensor([[[0.0, 0.3, 0.7], [0.6, 0.4, 0.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    out = words(x, torch.zeros(2)).exp()
    per_word = words.logits.softmax(-1)
    wanted = 0.3 * (0.6 * per_word[3] + 0.4 * per_word[4]) + 0.7 * (0.6 * per_word[6] + 0.4 * per_word[7])
    torch.testing.assert_close(out[0], wanted)
    torch.testing.assert_close(out[1], per_word[2])
    without_mask = words(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.zeros(1)).exp()
    torch.testing.assert_close(without_mask[0], per_word[1])


def test_a_table_with_impossible_states_has_finite_gradients():
    logits = torch.tensor([[[-torch.inf, 0.0], [0.0, 0.0]]])
    table, x = Table(2, 1, logits), torch.eye(2).requires_grad_()
    out = table(x, torch.ones(2))
    assert out.exp().tolist() == [[pytest.approx(0, abs=1e-30), 1], [0.5, 0.5]]
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
