#!/bin/sh
# install-role ROLE[,ROLE]: the dependencies of these extras of pyproject.toml, at the constraints' versions.
set -eu
python -c '
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras, wanted, todo = project["optional-dependencies"], list(project["dependencies"]), sys.argv[1].split(",")
while todo:
    for requirement in extras[todo.pop()]:
        if requirement.startswith("make-us-rich["):
            todo += requirement[len("make-us-rich["):-1].split(",")
        else:
            wanted.append(requirement)
print("\n".join(wanted))
' "$1" > /tmp/requirements.txt
pip install --find-links /wheels --constraint constraints.txt --requirement /tmp/requirements.txt
