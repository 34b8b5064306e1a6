"""The demo keeps what it says: every job right, the killed worker's chain finished, nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "samples.demo.main"]
PATIENCE_S = 200


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [*COMMAND, *arguments]
    return subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def is_running(pid: int) -> bool:
    """Tell whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("demo") / "hub"
    return demo("--dir", str(folder)), folder


def test_every_job_of_the_demo_is_right(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = finished
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 of 6 jobs right" in done.stdout
    assert "WRONG" not in done.stdout


def test_a_killed_worker_is_succeeded_and_only_its_last_step_may_run_again(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, _ = finished
    assert re.search(r"killed worker A in step \d+", done.stdout)
    assert re.search(r"worker B began the next activity \d+\.\d\d s after the kill", done.stdout)
    [(calls, runs)] = re.findall(r"^crash +20 +20 +(\d+) +(\d+) ", done.stdout, re.MULTILINE)
    assert int(calls) == 20
    assert 20 <= int(runs) <= 21


def test_a_folder_given_to_the_demo_is_kept(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, folder = finished
    assert {"hub.db", "activities.txt", "A.log", "B.log"} <= {path.name for path in folder.iterdir()}


@pytest.mark.azure
@pytest.mark.timeout(240)
def test_every_job_of_the_demo_is_right_on_azurite_and_the_emulator(tmp_path: Path) -> None:
    done = demo("--hub", "azurite", "--dir", str(tmp_path / "hub"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 jobs right" in done.stdout
    assert re.search(r"^left: queue demo-activities: 0 active", done.stdout, re.MULTILINE)
    assert re.search(r"^left: table demo: \d+ rows \(8 instances, 4 locks", done.stdout, re.MULTILINE)
    assert re.search(r"^left: container demo-payloads: \d+ blobs", done.stdout, re.MULTILINE)


def test_the_demo_does_not_use_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = demo("--dir", str(tmp_path))
    assert done.returncode == 2
    assert "not empty" in done.stderr


def test_the_demo_says_which_hubs_there_are() -> None:
    done = demo("--hub", "moon")
    assert done.returncode == 2
    assert "local" in done.stderr
    assert "azurite" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Ctrl-C to send to one process")
def test_ctrl_c_ends_the_demo_and_its_workers() -> None:
    process = subprocess.Popen(  # noqa: S603
        COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    output = ""
    while "approval:" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=PATIENCE_S)
    output += rest
    [(folder, *pids)] = re.findall(
        r"hub: (\S+).*?A \(process (\d+)\) and B \(process (\d+)\)", output, re.DOTALL
    )
    assert process.returncode == 130
    # Python may warn of a coroutine that the signal met between its making and its start.
    assert "Traceback" not in errors
    assert "interrupted; the workers are stopped" in output
    assert [pid for pid in pids if is_running(int(pid))] == []
    assert not Path(folder).parent.exists()
