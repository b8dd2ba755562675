"""The one solve loop: native steps in chunks, with callback, progress bar and a clean Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Record = dict[str, Any]
Callback = Callable[[Record], Any]


class _Interrupt:
    """Turns the first Ctrl-C into a flag that is read between chunks; a second one raises as usual."""

    def __init__(self) -> None:
        self.raised = False
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            if callable(self._previous):  # leave SIG_IGN and handlers set outside Python alone
                signal.signal(signal.SIGINT, self._note)
                self._installed = True
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.raised:
            self._restore()
            raise KeyboardInterrupt
        self.raised = True

    def _restore(self) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)
            self._installed = False

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()


class _Bar:
    """A tqdm bar when asked for, else nothing."""

    def __init__(self, wanted: bool, title: str, figure: str, counter: str) -> None:
        self._bar = None
        self._figure, self._counter = figure, counter
        if wanted:
            try:
                from tqdm.auto import tqdm
            except ImportError as error:
                raise ImportError("progress=True needs tqdm: pip install 'fastcore_ops[progress]'") from error
            self._bar = tqdm(desc=title, unit=" " + counter)

    def show(self, record: Record) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._figure} {record[self._figure]:.2e}", refresh=False)
            self._bar.update(record[self._counter] - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def run(
    step: Callable[[], tuple[Record, str | None]],
    *,
    title: str,
    callback: Callback | None = None,
    progress: bool = False,
    figure: str = "error",
    counter: str = "passes",
) -> tuple[str, list[Record]]:
    """Call ``step`` until it names a status, and return that status with all records.

    ``step()`` does a chunk of work and returns ``(record, status)``: the record holds at least ``figure`` and ``counter``,
    which the bar shows; the status is None while there is more to do. ``callback(record)`` may end the solve by returning
    True.
    """
    history: list[Record] = []
    bar = _Bar(progress, title, figure, counter)
    try:
        with _Interrupt() as interrupt:
            while True:
                record, status = step()
                history.append(record)
                bar.show(record)
                wants_stop = callback is not None and callback(record) is True
                if status is not None:
                    return status, history
                if wants_stop:
                    return "stopped", history
                if interrupt.raised:
                    return "interrupted", history
    finally:
        bar.close()
