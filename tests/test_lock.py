"""One writer in a folder: who comes second is told who is first, and a lock dies with its process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from biotilt.errors import FolderInUse
from biotilt.folder import LOCK
from biotilt.lock import only_writer

HOLD = """
import sys, time
from pathlib import Path
from biotilt.lock import only_writer

with only_writer(Path(sys.argv[1]), "tuning"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path):
    """A folder whose lock another process holds, and the process."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield tmp_path / "run", process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_and_told_who_the_first_is(held):
    folder, process = held
    before = (folder / LOCK).read_bytes()
    with pytest.raises(FolderInUse) as caught, only_writer(folder, "judging"):
        pass
    about = json.loads(before)
    for words in (f"{folder} is in use", f"process {process.pid} on {os.uname().nodename}", "tuning", about["since"]):
        assert words in str(caught.value)
    assert (folder / LOCK).read_bytes() == before


def test_the_lock_dies_with_its_process(held):
    folder, process = held
    process.kill()
    process.wait()
    with only_writer(folder, "tuning"):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert (folder / LOCK).read_bytes() == b"", "nobody holds it"


def test_a_thread_is_a_second_writer_too(tmp_path):
    refused = []

    def second():
        try:
            with only_writer(tmp_path, "tuning"):
                pass
        except FolderInUse as error:
            refused.append(error)

    with only_writer(tmp_path, "tuning"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    second()
    assert len(refused) == 1, "free again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_reward_forks_does_not_keep_the_lock(tmp_path):
    ready, go = os.pipe(), os.pipe()
    with only_writer(tmp_path, "tuning"):
        child = os.fork()
        if child == 0:
            os.write(ready[1], b"x")
            os.read(go[0], 1)  # outlives the run
            os._exit(0)
        os.read(ready[0], 1)
    try:
        with only_writer(tmp_path, "tuning"):
            pass
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for end in (*ready, *go):
            os.close(end)
