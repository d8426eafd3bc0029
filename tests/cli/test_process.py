"""The command line as a process: interruption, closed pipes, progress."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from recsys_fast.cli import main, progress
from tests.cli.conftest import FAST


def _start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "recsys_fast.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_interruption_is_exit_130(ratings: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    running = _start("fit", "als", "--data", str(ratings), "--out", str(out), "--set", "n_epochs=100000000")
    assert running.stderr is not None
    assert "training on" in running.stderr.readline()
    time.sleep(1.0)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130
    assert errors.splitlines() == ["recsys-fast: interrupted"]
    assert not out.exists()


def test_interruption_behind_a_system_error_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(args: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    def broken(args: object) -> None:
        raise SystemError("something else")

    monkeypatch.setattr("recsys_fast.cli.commands.config", interrupted)
    assert main(["config"]) == 130
    monkeypatch.setattr("recsys_fast.cli.commands.config", broken)
    with pytest.raises(SystemError):
        main(["config"])


def test_a_reader_that_leaves_is_no_error(model_file: Path) -> None:
    running = _start("recommend", str(model_file), "--users", "all", "-n", "40", "--format", "csv")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.wait(timeout=120) == 0


def test_progress_only_on_a_terminal_and_not_quiet(ratings: Path, tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("pseudo-terminals are a Unix matter")
    command = [sys.executable, "-m", "recsys_fast.cli", "fit", "als", "--data", str(ratings), *FAST]
    command += ["--out", str(tmp_path / "m.safetensors")]
    piped = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert piped.returncode == 0
    assert "\r" not in piped.stderr
    for extra, shown in (([], True), (["--quiet"], False)):
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, 120))
        running = subprocess.Popen([*command, *extra], stdout=theirs, stderr=theirs)
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            seen += part
            if not part:
                break
        os.close(ours)
        assert running.wait(timeout=240) == 0
        assert (b"3/3" in seen) is shown, seen
        assert shown or seen == b""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_clock_runs_while_something_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    for delay, quiet, shown in ((0.0, False, True), (30.0, False, False), (0.0, True, False)):
        monkeypatch.setattr(progress, "_DELAY", delay)
        terminal = _Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.working("reading", quiet):
            deadline = time.monotonic() + (10.0 if shown else 0.2)
            while "reading" not in terminal.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
        assert ("reading" in terminal.getvalue()) is shown
