"""Files are written whole or not at all, through nobody's links, and checked before anything is spent on them."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from biotilt.atomic import check_output, remove_leftovers, temporary_name, write_atomic, write_each
from biotilt.errors import BiotiltError, DataError
from biotilt.files import write_json, write_text
from biotilt.spaces import check_designs_output
from biotilt.tensors import save_tensors

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_of_the_replaced_file_is_kept(tmp_path, mode):
    for name, write in {
        "a.txt": lambda path: write_text(path, "new"),
        "a.safetensors": lambda path: save_tensors(path, {}, {"kind": "new"}),
    }.items():
        path = tmp_path / name
        path.write_text("old")
        path.chmod(mode)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() != b"old"


@posix
def test_a_new_file_has_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "new")
        save_tensors(tmp_path / "a.safetensors", {}, {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


@posix
def test_what_replaces_a_private_file_is_private_while_it_is_written(tmp_path):
    path, seen = tmp_path / "a.txt", []
    path.write_text("secret")
    path.chmod(0o600)
    write_atomic(path, lambda p: (p.write_text("more"), seen.append(stat.S_IMODE(p.stat().st_mode))))
    assert seen == [0o600]


@posix
def test_no_link_is_followed(tmp_path, monkeypatch):
    """Neither one that lies at the temporary name, should somebody guess it, nor one at the name itself."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("biotilt.atomic.secrets.token_hex", lambda size: "guessed")
    guessed = temporary_name(tmp_path)
    guessed.symlink_to(victim)
    with pytest.raises(BiotiltError, match="File exists"):
        write_text(tmp_path / "a.txt", "ours")
    monkeypatch.undo()
    assert guessed.is_symlink(), "what is not ours stays"
    guessed.unlink()
    (tmp_path / "a.txt").symlink_to(victim)
    write_text(tmp_path / "a.txt", "ours")
    assert victim.read_text() == "precious" and (tmp_path / "a.txt").read_text() == "ours"
    assert not (tmp_path / "a.txt").is_symlink()


def test_temporary_names_differ(tmp_path):
    assert len({temporary_name(tmp_path) for _ in range(100)}) == 100


def test_a_failing_writer_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(temporary):
        temporary.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(BiotiltError, match=r"cannot write .*a\.txt: No space left on device; nothing was replaced"):
        write_atomic(path, half)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@posix
def test_folders_are_put_on_disk_with_their_files(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "new" / "folder" / "a.txt", "text")
    folders = [path for path in synced if Path(path).is_dir()]
    assert folders == [str(tmp_path), str(tmp_path / "new"), str(tmp_path / "new" / "folder")]
    assert synced[2].endswith(".tmp"), "the file before its name"


def test_one_file_keeps_no_other_from_being_written(tmp_path):
    (tmp_path / "b").mkdir()
    writes = [lambda name=name: write_json(tmp_path / name, 1) for name in ("a", "b", "c")]
    with pytest.raises(BiotiltError, match="/b: Is a directory"):
        write_each(*writes)
    assert (tmp_path / "a").is_file() and (tmp_path / "c").is_file()
    (tmp_path / "d").mkdir()
    with pytest.raises(BiotiltError, match=r"cannot write .*/b: .*; cannot write .*/d: "):
        write_each(*writes, lambda: write_json(tmp_path / "d", 1))


@pytest.mark.parametrize("links", [True, False])
def test_what_is_replaced_is_kept_and_no_moment_is_without_a_file(tmp_path, monkeypatch, links):
    path, keep, seen = tmp_path / "a", tmp_path / "a.before", []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(path.exists()), rename(self, to))[1])
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    write_atomic(path, lambda p: p.write_text("1"), keep=keep)
    assert not keep.exists()
    seen.clear()
    for text, before in (("2", "1"), ("3", "2")):
        write_atomic(path, lambda p, text=text: p.write_text(text), keep=keep)
        assert (path.read_text(), keep.read_text()) == (text, before)
    assert seen == ([True] * 4 if links else [True, False] * 2)
    if links:  # killed before the new file got its name: both names are of one file
        keep.unlink()
        os.link(path, keep)
        write_atomic(path, lambda p: p.write_text("4"), keep=keep)
        assert (path.read_text(), keep.read_text()) == ("4", "3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.before"], "nothing is left behind"


def test_outputs_are_checked_without_a_trace(tmp_path):
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "new" / "folder" / "a.csv")
    check_output(tmp_path / "file")
    for path, words in {
        tmp_path: "Is a directory",
        tmp_path / "file" / "a.csv": "Not a directory",
        tmp_path / "new" / ("x" * 300) / "a.csv": "File name too long",
        tmp_path / "a\0b": "NUL character",
    }.items():
        with pytest.raises(BiotiltError, match=rf"cannot write .*{words}; nothing was started"):
            check_output(path)
    with pytest.raises(BiotiltError, match="No space left on device"):
        check_output(tmp_path / "a.csv", 1 << 60)
    with pytest.raises(DataError, match="unknown kind of file"):
        check_designs_output(tmp_path / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@posix
def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    """Root may write everywhere, so the system's refusal is played."""

    def refuse(path, flags, mode=0o777):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BiotiltError, match=r"cannot write .*a\.csv: Permission denied"):
        check_output(tmp_path / "a.csv")


def test_leftovers_of_killed_writers_are_removed_once_they_are_old(tmp_path):
    old, new, other = temporary_name(tmp_path), temporary_name(tmp_path), tmp_path / "mine.tmp"
    for path in (old, new, other):
        path.write_text("half")
    long_ago = time.time() - 120
    os.utime(old, (long_ago, long_ago))
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])
