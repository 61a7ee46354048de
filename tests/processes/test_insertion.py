"""Insertion of letters against its definition: every sequence of up to three letters of two, written out."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor, nn

import biotilt
from biotilt.core import Context, Policy, Replay, Roles, Target, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.evaluation.likelihood import kind_for, log_likelihood
from biotilt.model import Model
from biotilt.networks.mlp import MLP, MLPConfig
from biotilt.objectives import TrajectoryBalance
from biotilt.processes import Insertion
from biotilt.samplers import SMC
from biotilt.spaces import DNA, RNA, Letters, Padded
from biotilt.testing import TableScorer, law, push, space, tilted_law, total_variation, transition_matrices
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.training import PretrainConfig, TrainConfig, Trainer

V, L = 3, 3  # two letters and the pad
PAD, MASK = 2, 3
PROCESS = Insertion(L, V)
SPACE = space(PROCESS)
State = tuple[str, bool]  # a word of "0" and "1", and whether it has ended


class Rows(nn.Module):
    """A table of logits, one row for every sequence of letters, pads and masks."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits[(x.long() * torch.tensor([16, 4, 1])).sum(-1)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_policy(seed: int, process: Insertion = PROCESS) -> Policy:
    return Policy(process, Rows(1.5 * torch.randn(64, L, V, generator=generator(seed), dtype=torch.float64)))


def row(state: State) -> list[int]:
    word, ended = state
    return [int(a) for a in word] + [PAD if ended and len(word) < L else MASK] * (L - len(word))


def states() -> list[State]:
    """Every state in the order of SPACE."""
    known = {
        tuple(row(state)): state
        for size in range(L + 1)
        for word in map("".join, itertools.product("01", repeat=size))
        for state in [(word, False), (word, True)]
        if size or not state[1]
    }
    return [known[tuple(x)] for x in SPACE.states.tolist()]


STATES = states()
WORDS = [STATES[i][0] for i in SPACE.designs.tolist()]


def events(word: str, shortest: int = 1) -> list[tuple[int, int]]:
    """What may come: a letter before a place, and the end."""
    found = [(j, a) for j in range(len(word) + 1) for a in range(2)]
    return found + ([(len(word), PAD)] if len(word) >= shortest else [])


def after(word: str, event: tuple[int, int]) -> State:
    j, a = event
    if a == PAD:
        return word, True
    grown = word[:j] + str(a) + word[j:]
    return grown, len(grown) == L


def test_all_sequences_are_listed():
    assert len(STATES) == 1 + 2 + 4 + 8 + 2 + 4
    assert sorted(WORDS) == sorted(w for n in (1, 2, 3) for w in map("".join, itertools.product("01", repeat=n)))


@pytest.mark.parametrize("shortest", [1, 2, 3])
def test_the_density_sums_what_makes_a_sequence(shortest):
    """ "0" before and after a "0" are one sequence."""
    policy = random_policy(1, Insertion(L, V, shortest))
    found = transition_matrices(policy, SPACE.states)
    for k in range(L):
        for s, (word, ended) in enumerate(STATES):
            wanted: dict[State, float] = defaultdict(float)
            if ended or len(word) == L:
                wanted[(word, ended and len(word) < L)] = 1
            else:
                logits = policy.net(SPACE.states[s : s + 1], torch.zeros(1))[0].detach()
                weights = {event: math.exp(logits[event]) for event in events(word, shortest)}
                for event, weight in weights.items():
                    grown, closed = after(word, event)
                    wanted[(grown, closed and len(grown) < L)] += weight / sum(weights.values())
            there = [wanted.get((w, e and len(w) < L), 0.0) for w, e in STATES]
            torch.testing.assert_close(found[k, s], torch.tensor(there).double(), atol=1e-6, rtol=0)


DATA = torch.tensor([3, 1, 0.5, 2, 4, 1, 0.2, 2, 5, 1, 0.7, 3, 0.1, 2], dtype=torch.float64)
DATA = DATA / DATA.sum()


def noised(word: str, k: int) -> dict[State, float]:
    """q(x[k] | design): k letters of it, every choice equally likely; itself when it has ended."""
    if k > len(word):
        return {(word, True): 1.0}
    found: dict[State, float] = defaultdict(float)
    for kept in itertools.combinations(range(len(word)), k):
        found[("".join(word[i] for i in kept), False)] += 1 / math.comb(len(word), k)
    return found


def exact_posterior() -> Policy:
    """The chance of each event at each state, by Bayes' rule over designs, letters kept and what comes next."""
    mass = torch.zeros(64, L, V, dtype=torch.float64)
    for word, p in zip(WORDS, DATA.tolist()):
        for k in range(len(word) + 1):
            for kept in itertools.combinations(range(len(word)), k):
                x = row(("".join(word[i] for i in kept), False))
                chance = p / math.comb(len(word), k)
                place = x[0] * 16 + x[1] * 4 + x[2]
                if k == len(word) < L:
                    mass[place, k, PAD] += chance
                for i in set(range(len(word))) - set(kept):
                    mass[place, sum(j < i for j in kept), int(word[i])] += chance / (len(word) - k)
    return Policy(PROCESS, Rows(mass.clamp(min=1e-300).log()))


def test_with_the_exact_posterior_every_step_has_the_law_of_the_noising_and_designs_that_of_the_data():
    laws = push(transition_matrices(exact_posterior(), SPACE.states), SPACE.start)
    for k in range(L + 1):
        wanted: dict[State, float] = defaultdict(float)
        for word, p in zip(WORDS, DATA.tolist()):
            for state, q in noised(word, k).items():
                wanted[state[0], state[1] and len(state[0]) < L] += p * q
        there = [wanted.get((w, e and len(w) < L), 0.0) for w, e in STATES]
        torch.testing.assert_close(laws[k], torch.tensor(there).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(law(exact_posterior()), DATA, atol=1e-6, rtol=0)


def test_the_loss_is_a_bound_and_with_the_exact_posterior_the_log_likelihood():
    designs, draws = SPACE.states[SPACE.designs], 12_000
    for policy, exact, tight in ((exact_posterior(), DATA, True), (random_policy(2), law(random_policy(2)), False)):
        gaps = []
        for i in range(0, len(designs), 3):
            loss = PROCESS.denoising_loss(policy.net, designs[i].expand(draws, L), generator(i)).detach()
            error = loss.std().item() / math.sqrt(draws) + 1e-6
            gaps.append(loss.mean().item() + math.log(exact[i]))
            assert abs(gaps[-1]) < 4.5 * error if tight else gaps[-1] > -4.5 * error
        assert tight or sum(gaps) > 0.3
    found = log_likelihood(exact_posterior(), designs[:2], "bound", draws=4000)
    assert (found.values.exp() - DATA[:2]).abs().max() < 0.02
    with pytest.raises(ConfigError, match="takes 3 steps"):
        kind_for(random_policy(2), "exact")


def test_corruptions_and_draws_have_their_laws():
    draws = 12_000
    for word in ("101", "01", "1"):
        design = torch.tensor([row((word, True))], dtype=torch.int8).expand(draws, L)
        for k in range(L + 1):
            x = PROCESS.corrupt(design, k, generator(k))
            seen = (x.unsqueeze(1) == SPACE.states).all(-1).double().mean(0)
            given = {(w, e and len(w) < L): p for (w, e), p in noised(word, k).items()}
            wanted = torch.tensor([given.get((w, e and len(w) < L), 0.0) for w, e in STATES]).double()
            assert ((seen - wanted).abs() <= 5 * (wanted * (1 - wanted) / draws).sqrt() + 1e-9).all()
    policy = random_policy(3)
    seen = (sample(policy, draws, generator(4)).unsqueeze(1) == SPACE.states[SPACE.designs]).all(-1).double().mean(0)
    wanted = law(policy)
    assert ((seen - wanted).abs() <= 5 * (wanted * (1 - wanted) / draws).sqrt() + 1e-9).all()


def test_pretraining_goes_to_the_data():
    policy = Policy(PROCESS, Rows(torch.zeros(64, L, V)))
    optimiser, g = torch.optim.Adam(policy.net.parameters(), 0.15), generator(5)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.01, 80)
    before = total_variation(law(policy), DATA)
    for _ in range(80):
        designs = SPACE.states[SPACE.designs][torch.multinomial(DATA, 512, replacement=True, generator=g)]
        loss = PROCESS.denoising_loss(policy.net, designs, g).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
    assert before > 0.3 and total_variation(law(policy), DATA) < 0.05


def test_smc_is_unbiased_and_tuning_reaches_the_tilted_law():
    reward, base = torch.randn(14, generator=generator(6)), random_policy(7)
    base = Policy(PROCESS, Rows(0.5 * base.net.logits.detach().float()))  # type: ignore[operator]
    scorer = TableScorer(PROCESS, reward)
    p_star, _ = tilted_law(law(base), reward, 0.6)
    assert total_variation(law(base), p_star) > 0.3
    context = Context(Roles.start(base), Target(scorer, 0.6), generator(8))
    context.roles.proposal = Policy(PROCESS, Rows(base.net.logits.detach() + 0.3))  # type: ignore[operator]
    check_sampler(SMC(value="none"), context, enumerated_answer(base, reward, 0.6), count=16, repeats=60)
    objective = TrajectoryBalance(form="log_variance", updates=8, chains=256, buffer=8192)
    context = Context(Roles.start(base), Target(scorer, 0.6), generator(9), Replay(objective.capacity))
    config = TrainConfig(max_calls=256 * 14, batch=256, lr=0.08, warmup=5, clip=10.0, ema=0.95)
    net = Trainer(context, objective, config, scorer).run()
    assert total_variation(law(Policy(PROCESS, net)), p_star) < 0.03


def test_a_generator_of_any_length_is_trained_stored_and_tuned(tmp_path):
    letters = torch.randint(4, (80, 8), generator=generator(10)).tolist()
    words = ["".join("ACGU"[i] for i in row[: 2 + place % 7]) for place, row in enumerate(letters)]
    few = PretrainConfig(steps=10, warmup=2, batch=16)
    made, _ = biotilt.pretrain_model(
        words,
        Padded(RNA, 8),
        network={"channels": 8, "blocks": 1},
        process={"name": "insertion", "shortest": 2},
        config=few,
    )
    assert made.policy.process == Insertion(8, 5, shortest=2)
    made.save(tmp_path / "base.safetensors")
    designs = Model.load(tmp_path / "base.safetensors").sample(200, seed=1)
    assert designs == made.sample(200, seed=1) and all(2 <= len(design) <= 8 for design in designs)
    keys = {
        "alpha": 0.5, "model": {"path": "base.safetensors"}, "reward": {"kind": "gc"},
        "objective": {"name": "auto"}, "train": {"max_calls": 32, "batch": 16}, "output": {"samples": 8},
    }  # fmt: skip
    experiment = biotilt.Experiment.from_dict(keys, tmp_path)
    assert experiment.config.objective["name"] == "ppo"
    run = biotilt.tune(experiment, tmp_path / "run")
    run.evaluate()
    assert biotilt.load_model(tmp_path / "run").policy.process == made.policy.process


@pytest.mark.parametrize(
    ("space", "message"), [(Letters(DNA), "of several lengths"), (Padded(DNA, 6, "left"), 'side "right"')]
)
def test_pads_must_be_there_and_behind(space, message):
    net = MLP(MLPConfig(len(space.symbols), 6, width=8))
    with pytest.raises(ConfigError, match=message):
        Model(Policy(Insertion(6, len(space.symbols)), net), space)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="shortest must be at most 3"):
        Insertion(3, 3, shortest=4)
    model = Model(Policy(Insertion(6, 5), MLP(MLPConfig(5, 6, width=8))), Padded(DNA, 6))
    with pytest.raises(ConfigError, match="cannot hold positions fixed"):
        model.with_fixed(Fixed(torch.arange(6) == 0, torch.zeros(6, dtype=torch.int8)))
    with pytest.raises(ConfigError, match="does not serve"):
        model.with_process(name="masked")
