from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from make_us_rich.embedded.ray_head import end_processes_using


def test_only_who_reads_a_file_of_the_folder_is_ended(tmp_path: Path) -> None:
    waiting = [sys.executable, "-c", "import time; time.sleep(60)"]
    files = {"left": tmp_path / "haproxy" / "node" / "haproxy.cfg", "another": tmp_path / "haproxy2" / "haproxy.cfg"}
    running = {name: subprocess.Popen([*waiting, "-f", str(file)]) for name, file in files.items()}
    itself = subprocess.Popen([*waiting, str(tmp_path / "haproxy")])
    try:
        (ended,) = end_processes_using(tmp_path / "haproxy")
        assert str(files["left"]) in ended
        assert not psutil.pid_exists(running["left"].pid)
        assert [running["another"].poll(), itself.poll()] == [None, None]
    finally:
        for process in (*running.values(), itself):
            process.kill()
            process.wait()
