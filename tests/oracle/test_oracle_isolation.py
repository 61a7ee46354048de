"""A reward cannot change the run, whatever it sets, prints or raises; and it keeps what it has set."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle_samples import Answers, Letters, oracle_of, reasons
from pool_samples import Loud

from biotilt.errors import BiotiltError, BudgetSpent, CheckpointError, ConfigError, RewardError
from biotilt.oracle.workers.isolation import adopt, isolated, reseed


class Doing(Letters):
    """Calls `act` on every batch, then scores it as `Letters` does."""

    differentiable = True

    def __init__(self, act):
        super().__init__()
        self.act = act

    def __call__(self, designs):
        self.act()
        return super().__call__(designs)

    def score_one_hot(self, x):
        self.act()
        return x[..., 0].sum(-1)


def environment():
    return dict(os.environ)


SETTINGS = {
    "dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "deterministic": (
        torch.are_deterministic_algorithms_enabled, lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    ),
    "precision": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 3)),
    "folder": (Path.cwd, lambda: os.chdir("/")),
    "variable": (environment, lambda: os.environ.update(BIOTILT_TEST="1")),
    "lost variable": (environment, lambda: os.environ.pop("PATH", None)),
    "filters": (lambda: warnings.filters[:], lambda: warnings.simplefilter("ignore", ResourceWarning)),
    "numpy errors": (np.geterr, lambda: np.seterr(over="raise")),
}  # fmt: skip
CONTROL = {
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(not torch.is_grad_enabled())),
    "signal": (lambda: signal.getsignal(signal.SIGTERM), lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "alarm": (lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0, lambda: signal.alarm(1000)),
    "stream": (lambda: sys.stdout, lambda: setattr(sys, "stdout", None)),
}
SEEDS = {
    "torch": (lambda: torch.get_rng_state().tolist(), lambda: torch.manual_seed(1)),
    "numpy": (lambda: str(np.random.get_state()), lambda: np.random.seed(1)),  # noqa: NPY002
    "python": (random.getstate, lambda: random.seed(1)),
}


@pytest.mark.parametrize("how", ["batch", "alone", "raising", "relaxed"])
@pytest.mark.parametrize("name", [*SETTINGS, *CONTROL, *SEEDS])
def test_what_a_reward_sets_is_set_back(name, how):
    get, act = (SETTINGS | CONTROL | SEEDS)[name]
    before = get()

    def acting():
        act()
        assert get() != before, "the reward did change it"
        if how == "raising":
            raise ValueError("odd")

    oracle = oracle_of(Doing(acting))
    if how == "relaxed":
        oracle.relaxed(torch.eye(4)[torch.tensor([[0, 1], [2, 3]])])
    else:
        oracle.score(["A"] if how == "alone" else ["A", "C"])
    assert get() == before


@pytest.mark.parametrize("name", SETTINGS)
def test_a_reward_finds_what_it_set(name):
    get, act = SETTINGS[name]
    seen = []

    def once():
        if not seen:
            act()
        seen.append(get())

    oracle = oracle_of(Doing(once))
    oracle.score(["A"])
    oracle.score(["C"])
    assert seen[0] == seen[1] != get()
    other = []
    oracle_of(Doing(lambda: other.append(get()))).score(["A"])
    assert other == [get()], "another reward does not find it"


def test_variables_that_are_set_later_reach_a_reward_that_set_others(monkeypatch):
    seen = []

    def act():
        os.environ["BIOTILT_TEST"] = "1"
        seen.append(os.environ.get("BIOTILT_LATER"))

    oracle = oracle_of(Doing(act))
    oracle.score(["A"])
    monkeypatch.setenv("BIOTILT_LATER", "2")
    oracle.score(["C"])
    assert seen == [None, "2"]
    assert "BIOTILT_TEST" not in os.environ


DRAWS = {
    "torch": (lambda: torch.rand(1).item(), torch.manual_seed),
    "numpy": (lambda: float(np.random.rand()), np.random.seed),  # noqa: NPY002
    "normal": (lambda: float(np.random.normal()), np.random.seed),  # noqa: NPY002
    "python": (random.random, random.seed),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_noisy_reward_draws_from_a_stream_of_its_own(name):
    draw, seed = DRAWS[name]
    seed(5)
    wanted = [draw() for _ in range(6)]
    seed(5)
    found: list[float] = []
    oracle = oracle_of(Doing(lambda: found.append(draw())))
    ours = []
    for design in ("A", "C", "G"):
        oracle.score([design])
        ours.append(draw())
    assert found == wanted[:3], "it starts where the process is, and repeats nothing"
    assert ours == wanted[:3], "the run's numbers are those without it"
    seed(7)
    reseed()  # as a new run does
    oracle.score(["T"])
    assert found[3] == draw()


def test_the_streams_of_a_run_without_noise_are_untouched():
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002

    np.random.normal()  # noqa: NPY002  # leaves half a pair
    before = states()
    oracle = oracle_of(Letters())
    for design in ("A", "C", "G"):
        oracle.score([design])
    assert states() == before


def test_another_generator_of_numpy_is_kept_too():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(3))
    try:
        wanted = [float(np.random.rand()) for _ in range(2)]  # noqa: NPY002
        np.random.set_bit_generator(np.random.PCG64(3))
        oracle_of(Doing(np.random.rand)).score(["A"])
        assert [float(np.random.rand()) for _ in range(2)] == wanted  # noqa: NPY002
    finally:
        np.random.set_bit_generator(before)


def test_gradients_flow_through_relaxed_scores_and_no_design_is_changed():
    def in_place(x):
        return x.mul_(2).sum((1, 2))

    made = Doing(lambda: torch.set_grad_enabled(False))
    made.score_one_hot = lambda x: in_place(x)
    leaf = torch.rand(2, 3, 4, requires_grad=True)
    designs = leaf * 1.0
    before = designs.detach().clone()
    scores = oracle_of(made).relaxed(designs)
    scores.sum().backward()
    assert designs.detach().equal(before)
    assert leaf.grad is not None and leaf.grad.equal(torch.full_like(leaf, 2.0))


# What it writes


def test_what_is_written_to_stdout_goes_to_stderr(capfd):
    libc = ctypes.CDLL(None)

    def write():
        print("from Python")
        os.write(1, b"from a descriptor\n")
        libc.printf(b"from C\n")
        subprocess.run(["echo", "from a program"], check=True)

    print("before", end=" ")
    oracle_of(Doing(write)).score(["A"])
    print("after")
    out, err = capfd.readouterr()
    assert out == "before after\n"
    assert sorted(err.splitlines()) == ["from C", "from Python", "from a descriptor", "from a program"]


def test_what_a_worker_writes_to_stdout_goes_to_stderr(pool, capfd):
    assert pool(Loud(), workers=1).score(["A"]).tolist() == [11.0]
    out, err = capfd.readouterr()
    assert (out, err.splitlines()) == ("", ["loaded", "asked", "of a descriptor"])


REWARD = """
import os, random
import numpy as np
import torch

torch.set_default_dtype(torch.float64)
np.random.seed(1)
random.seed(1)
torch.manual_seed(1)
os.chdir("/")
os.environ["BIOTILT_TEST"] = "1"
print("loaded")

def score(designs):
    print("asked")
    os.system("echo shouted")
    assert os.getcwd() == "/" and os.environ["BIOTILT_TEST"] == "1"
    assert torch.get_default_dtype() == torch.float64
    return [float(design.count("A")) for design in designs]
"""


@pytest.mark.parametrize("parts", [False, True])
def test_a_file_of_a_reward_changes_nothing_when_it_is_loaded(tmp_path, capfd, parts):
    from biotilt.config import RewardSection
    from biotilt.reward_given import load_reward

    (tmp_path / "score.py").write_text(REWARD)
    section = {"kind": "python", "function": "score.py:score"}
    if parts:
        section = {"kind": "sum", "parts": [section, {"kind": "gc"}]}
    before = [get() for get, _ in (SETTINGS | SEEDS).values()]
    made = load_reward(RewardSection.model_validate(section), tmp_path, "reward")
    assert [get() for get, _ in (SETTINGS | SEEDS).values()] == before
    wanted = 3.25 if parts else 3.0
    assert oracle_of(made).score(["AACA", "AATG"])[0] == wanted
    if parts:  # on the page each part is asked by itself
        assert oracle_of(made.parts[0]).score(["AACA"]).tolist() == [3.0]
    assert [get() for get, _ in (SETTINGS | SEEDS).values()] == before
    assert capfd.readouterr().out == ""


# What it raises


@pytest.mark.parametrize("where", ["inline", "pool"])
def test_errors_for_the_loop_that_a_reward_raises_are_those_of_a_design(pool, where):
    kinds = [BudgetSpent, CheckpointError, BiotiltError, GeneratorExit, StopIteration]
    table = {"C" * n: kind("mine") for n, kind in enumerate(kinds, 1)}
    oracle = oracle_of(Answers(**table)) if where == "inline" else pool(Answers(**table), workers=1)
    assert oracle.score(["A", *table, "G"]).isnan().tolist() == [False, *[True] * 5, False]
    assert {design: reasons(oracle)[design] for design in table} == {
        design: f"{type(error).__name__}: mine" for design, error in table.items()
    }


def test_reasons_are_one_line_that_can_be_stored():
    oracle = oracle_of(Answers(C=ValueError("odd\n  valence \udc80 \x1b[31m")))
    oracle.score(["A", "C"])
    assert reasons(oracle)["C"] == "ValueError: odd valence \\udc80 \\x1b[31m"


def test_an_error_that_cannot_tell_its_text():
    class Mute(ValueError):
        def __str__(self):
            raise RuntimeError("no text")

    oracle = oracle_of(Answers(C=Mute()))
    oracle.score(["A", "C"])
    assert reasons(oracle)["C"] == "Mute: Mute whose text cannot be had (RuntimeError)"


@pytest.mark.parametrize(("error", "words"), [
    (BudgetSpent("mine"), 'reward "letters" cannot score relaxed designs: BudgetSpent: mine'),
    (ValueError("odd"), 'reward "letters" cannot score relaxed designs: ValueError: odd'),
    (ConfigError("no box"), "no box"),
])  # fmt: skip
def test_what_a_reward_raises_of_relaxed_designs(error, words):
    made = Doing(lambda: None)

    def refuse(x):
        raise error

    made.score_one_hot = refuse
    with pytest.raises(BiotiltError) as caught:
        oracle_of(made).relaxed(torch.eye(4)[None])
    assert (str(caught.value), isinstance(caught.value, BudgetSpent)) == (words, False)


def test_relaxed_scores_of_another_shape():
    made = Doing(lambda: None)
    made.score_one_hot = lambda x: x.sum((1, 2)).unsqueeze(1)
    with pytest.raises(RewardError, match=r'"letters" returned shape \(1, 1\) for 1 relaxed designs'):
        oracle_of(made).relaxed(torch.eye(4)[None])


# Within one another, in threads, and at no cost


def test_one_within_another_leaves_all_to_the_first():
    inner = oracle_of(Doing(lambda: os.chdir("/")))
    here, seen = Path.cwd(), []

    def act():
        inner.score(["A"])
        seen.append(Path.cwd())

    oracle_of(Doing(act)).score(["A"])
    assert (seen, Path.cwd()) == ([Path("/")], here)


def test_threads_that_overlap_leave_nothing_behind():
    here, stdout = Path.cwd(), sys.stdout
    entered, may_leave = threading.Event(), threading.Event()

    def wait():
        os.chdir("/")
        entered.set()
        assert may_leave.wait(10)

    thread = threading.Thread(target=lambda: oracle_of(Doing(wait)).score(["A"]))
    thread.start()
    assert entered.wait(10)
    oracle_of(Letters()).score(["A"])
    may_leave.set()
    thread.join()
    assert (Path.cwd(), sys.stdout) == (here, stdout)
    with isolated():
        assert sys.stdout is sys.stderr, "the next one is the first again"


def test_a_world_ends_with_its_reward():
    from biotilt.oracle.workers import isolation

    def ids():
        made = Letters()
        with isolated(made):
            os.environ["BIOTILT_TEST"] = "1"
        assert isolation._worlds[id(made)] == {"environment": {b"BIOTILT_TEST": b"1"}}
        return id(made)

    assert ids() not in isolation._worlds
    adopt(3, {})  # nothing can refer to a number weakly
    assert id(3) not in isolation._worlds


def test_isolation_is_cheap():
    """Well below a millisecond also on a busy machine: a thousandth of a round of tuning."""
    made = Letters()

    def once():
        start = time.perf_counter()
        with isolated(made):
            pass
        return time.perf_counter() - start

    assert min(once() for _ in range(50)) < 5e-4
