from __future__ import annotations

import re

import yaml

from tests.support.processes import PROJECT_ROOT

WORKFLOWS = sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yml"))


def test_workflows_run_targets_that_exist_with_few_rights() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert len(WORKFLOWS) >= 5
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 60, path.name
            named = job.get("strategy", {}).get("matrix", {}).get("target", [])
            runs = " ".join(step.get("run", "") for step in job["steps"])
            used = {*named, *re.findall(r"make ([a-z-]+)", runs)}
            assert used <= targets, path.name
