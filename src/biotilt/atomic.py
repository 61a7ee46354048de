"""Writing so that files survive: whole or not at all, with their names on disk, through nobody's links."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from biotilt.errors import BiotiltError
from biotilt.ranks import is_first

TEMPORARY = ".biotilt-"


def write_atomic(path: Path, write: Callable[[Path], object], *, keep: Path | None = None) -> None:
    """Call `write` with a temporary name in the folder of `path`, then rename: nobody sees half a file.

    The file keeps the mode of the one that it replaces, which gets the name `keep` where one is given, before it loses
    its own: there is always a file at `path` (where the disk knows no links, it is left under `keep` for a moment). It
    is on disk, with its name, when this returns. Raises
    BiotiltError with the path when the disk is full or the folder cannot be written; whatever was at `path` before is
    then untouched. Of several processes of a run (`biotilt.ranks`) the first one writes.
    """
    if not is_first():
        return
    path = Path(path)
    temporary, given = temporary_name(path.parent), None
    try:
        make_folder(path.parent)
        mode = _mode_of(path)
        given = _create(temporary, 0o666 if mode is None else 0o600)  # what replaces a private file is private too
        write(temporary)
        _to_disk(temporary, given if mode is None else mode)
        if keep is not None and path.is_file():
            _keep(path, keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        if given is not None:
            _remove(temporary)
        if isinstance(error, BiotiltError) or not isinstance(error, Exception):
            raise
        # safetensors reports a full disk as its own error type, hence the broad catch
        raise BiotiltError(f"cannot write {path}: {reason(error)}; nothing was replaced. Free some space or choose "
                           "another folder") from error  # fmt: skip


def _keep(path: Path, keep: Path) -> None:
    """Give a file another name too; or, where the disk knows no links, that one instead of its own."""
    spare = temporary_name(keep.parent)
    try:
        os.link(path, spare, follow_symlinks=False)
    except (OSError, NotImplementedError):
        path.replace(keep)
        return
    try:
        spare.replace(keep)
    finally:
        _remove(spare)  # it stays where both names were of one file already: a writer was killed in between


def write_each(*writes: Callable[[], object]) -> None:
    """Write several files; one that cannot be written keeps no other from being written.

    Raises the first error in the end, with the messages of the others.
    """
    errors: list[Exception] = []
    for write in writes:
        try:
            write()
        except Exception as error:
            errors.append(error)
    if len(errors) > 1 and all(isinstance(error, BiotiltError) for error in errors):
        raise type(errors[0])("; ".join(map(str, errors))) from errors[0]
    for error in errors:
        raise error


def check_output(path: Path, size: int = 1 << 16) -> None:
    """Make sure, before anything is spent on it, that a file of `size` bytes could be written at `path`.

    Raises BiotiltError when the path is a folder or has a file for one, the folder cannot be written, or the disk is
    full. Nothing is left behind, no folder either.
    """
    if not is_first():
        return
    path = Path(path)
    try:
        if "\0" in str(path):
            raise OSError(errno.EINVAL, "a path cannot hold a NUL character")
        if any(len(os.fsencode(part)) > 255 for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        probe = temporary_name(folder)
        _create(probe, 0o600)
        try:
            _reserve(probe, size)
        finally:
            _remove(probe)
    except OSError as error:
        raise BiotiltError(
            f"cannot write {path}: {reason(error)}; nothing was started. Choose another place"
        ) from error


def temporary_name(folder: Path) -> Path:
    """Return a name in `folder` that nobody can guess, so that nobody can put a link there first."""
    return folder / f"{TEMPORARY}{secrets.token_hex(8)}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed writers left in a folder, but none that may be in use."""
    for path in folder.glob(f"{TEMPORARY}*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > 60:
                path.unlink()


def reason(error: Exception) -> str:
    """Return the reason alone: an OSError's own text repeats the temporary name."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, on disk when this returns; one that is there is left as it is."""
    missing = [f for f in (folder, *folder.parents) if not f.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        _sync_folder(made.parent)


def _mode_of(path: Path) -> int | None:
    """Return the permissions of the file at `path`, None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found.st_mode) & 0o777 if stat.S_ISREG(found.st_mode) else None


def _create(path: Path, mode: int) -> int:
    """Make an empty file that was not there, through no link; return its permissions, the umask taken off."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, mode)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _to_disk(path: Path, mode: int) -> None:
    """Set the permissions of a file (safetensors writes files that only their owner can read) and wait for the disk."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Put the names of a folder on disk: a renamed file is else lost with the power. Not every system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reserve(path: Path, size: int) -> None:
    """Raise OSError when `size` bytes do not fit: a reservation knows of quotas too, where the system has them."""
    if shutil.disk_usage(path).free < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({size / 1e6:.1f} MB are needed)")
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            try:
                os.posix_fallocate(handle.fileno(), 0, size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a parent that is a file, say: the first error is the one to tell
        path.unlink()
