"""Run a program and kill all that it started when it ends, or when whoever asked for it is gone.

A script of its own, started by `biotilt.rewards.command` with a pipe as its input: the end of that pipe, which also
comes when the asking process is killed, ends the program. Only what starts fast is imported.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

CANNOT_START = 127  # as of a shell


def main(words: list[str]) -> int:
    """Run a program, the first of `words`; return its exit code, 128 + n when signal n ended it."""
    try:
        program = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot start {words[0]}: {error.strerror}", file=sys.stderr)
        return CANNOT_START

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)

    def watch() -> None:
        sys.stdin.buffer.read()
        kill()

    threading.Thread(target=watch, daemon=True).start()
    code = program.wait()
    kill()  # its children, which would go on in a folder that is removed
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    result = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(result)  # the thread that reads could hold up an orderly exit
