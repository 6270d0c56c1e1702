"""How a command begins and ends as a process: signals, closed pipes, and one line for what a machine may refuse."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

RESUMES = "what is finished is kept, and the same command resumes from there"


class Ended(KeyboardInterrupt):
    """A signal that asks the command to end; everything that it started ends with it, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(command: Callable[[], int | None]) -> int:
    """Run a command; returns the exit status: 0, 1 (something failed), 2 (bad arguments), 130 (Ctrl-C), 128 + n (signal n)."""
    with _signals(), _short_warnings():
        try:
            status = command() or 0
            if sys.stdout:
                sys.stdout.flush()
            return status
        except click.ClickException as error:
            return _say(f"rtalib: {error.format_message()}", error.exit_code)
        except click.Abort as error:
            number = error.__cause__.number if isinstance(error.__cause__, Ended) else signal.SIGINT
            return _say(f"interrupted; {RESUMES}", 128 + number)
        except BrokenPipeError:  # the reader has seen enough
            _close_output()
            return 1
        except Exception as error:
            if not _is_foreseeable(error):
                raise
            status = _say(f"rtalib: {str(error) or 'out of memory'}", 1)
            _close_output()
            return status


def _is_foreseeable(error: Exception) -> bool:
    """Whether the machine or the store is the cause; a traceback would tell a user nothing more."""
    from rtalib.infra.store import StoreError

    return isinstance(error, (OSError, MemoryError, ImportError, StoreError))


def _say(text: str, status: int) -> int:
    print(text, file=sys.stderr)
    return status


def _close_output() -> None:
    """What is still to be printed goes nowhere: Python would fail at it again when it ends."""
    if sys.stdout:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the command. A shell makes its background jobs ignore SIGINT; nohup's wish, SIGHUP, is respected."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _end, signal.SIGHUP: _end}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del wanted[signal.SIGHUP]
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: object) -> None:
    raise Ended(number)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """A warning is one line, without the line of code that issued it."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *rest, **named: f"rtalib: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before
