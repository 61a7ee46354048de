"""A reward is the code of others: what it sets in this process stays with it, and the run does not see it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from biotilt.declared import Composite
from biotilt.oracle.workers.settings import RANDOM_NUMBERS, SETTINGS, flush_c

World = dict[str, Any]  # what a reward has set, by the name of the setting

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD") if hasattr(signal, name)]

_worlds: dict[int, World] = {}  # by the id of the reward, for as long as it lives
_lock = threading.Lock()
_depth = 0


@contextmanager
def isolated(reward: Any = None) -> Iterator[World]:
    """Run the code of a reward; afterwards this process is as it was, and what was set is kept for that reward.

    Set back are the `SETTINGS`, grad mode, signal handlers and a pending alarm. Random numbers are among them: a reward
    draws from a stream of its own, which starts where the process is when it first draws. What is written to stdout, by
    C code and other programs too, goes to stderr. A process that the reward forked and that comes back here ends here.

    One within another, or in another thread meanwhile, leaves all this to the first. Yields what the reward has set,
    so that `adopt` can hand it to a reward that is only being loaded.
    """
    global _depth
    process = os.getpid()
    if id(reward) not in _worlds:
        adopt(reward, {})
    world = _worlds.get(id(reward), {})
    with _lock:
        first = _depth == 0
        _depth += 1
    try:
        if first:
            with _settings_kept(world), _control_kept(), stdout_to_stderr():
                yield world
        else:
            yield world
    finally:
        if os.getpid() != process:
            os._exit(int(sys.exc_info()[0] is not None))
        with _lock:
            _depth -= 1


def adopt(reward: Any, world: World) -> None:
    """Make what was set while a reward was loaded its own and its parts'; a reward that has a world keeps it."""
    if reward is None or id(reward) in _worlds:
        return
    try:
        weakref.finalize(reward, _worlds.pop, id(reward), None).atexit = False
    except TypeError:  # what nothing can refer to weakly starts from nothing each time
        return
    _worlds[id(reward)] = world
    for part in reward.children() if isinstance(reward, Composite) else ():
        adopt(part, world)


def reseed() -> None:
    """Start the random numbers of all rewards anew, from where this process is when one draws next."""
    for world in _worlds.values():
        for name in RANDOM_NUMBERS:
            world.pop(name, None)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is written to stdout, by whichever way, to stderr."""
    stream, descriptor = sys.stdout, None
    _flush(stream)
    with suppress(OSError):  # closed, as in a daemon
        descriptor = os.dup(1)
        os.dup2(2, 1)
    if sys.stderr is not None:
        sys.stdout = sys.stderr
    try:
        yield
    finally:
        _flush(stream)
        sys.stdout = stream
        if descriptor is not None:
            os.dup2(descriptor, 1)
            os.close(descriptor)


def _flush(stream: Any) -> None:
    with suppress(AttributeError, OSError, ValueError):  # there is none, nobody reads it, or it is closed
        stream.flush()
    flush_c()


@contextmanager
def _settings_kept(world: World) -> Iterator[None]:
    """Go over to what the reward has set, and back again."""
    ours = {name: setting.get() for name, setting in SETTINGS.items() if setting.there()}
    for name, value in world.items():
        SETTINGS[name].put(value)
    try:
        yield
    finally:
        for name, before in ours.items():
            setting = SETTINGS[name]
            after = setting.get()
            world.pop(name, None)
            if setting.differ(before, after):
                world[name] = setting.change(before, after)
                setting.put(setting.change(after, before))


@contextmanager
def _control_kept() -> Iterator[None]:
    """Keep what decides how this process goes on, which is never the reward's to say: gradients, signals, an alarm."""
    torch = sys.modules.get("torch")
    gradients = torch is not None and torch.is_grad_enabled()
    handlers = [signal.getsignal(number) for number in SIGNALS]
    alarm = hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0
    try:
        yield
    finally:
        if torch is not None and torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
        if hasattr(signal, "getitimer") and not alarm and signal.getitimer(signal.ITIMER_REAL)[0] > 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(SIGNALS, handlers):
            # None: not set from Python
            if handler is not None and signal.getsignal(number) is not handler:
                with suppress(ValueError):  # another thread than the main one could not have set it either
                    signal.signal(number, handler)
