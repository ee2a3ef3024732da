from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from make_us_rich.embedded.ray_head import delete_old_sessions, end_processes_using


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


def test_the_folders_of_earlier_heads_are_deleted_and_that_of_the_last_one_stays(tmp_path: Path) -> None:
    names = [f"session_2026-11-{day}_10-22-28_898907_8582" for day in (23, 24, 25)]
    for name in names:
        (tmp_path / name / "logs").mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(tmp_path / names[-1])
    (tmp_path / "ray_current_cluster").touch()

    delete_old_sessions(tmp_path)
    delete_old_sessions(tmp_path / "of a first start")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["ray_current_cluster", names[-1], "session_latest"]
