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
# PyTorch first and by itself, because an index that is added to the configured one may offer any package.
if grep -q '^torch\b' /tmp/requirements.txt; then
  torch=$(grep '^torch==' constraints.txt)
  case ${TORCH:-cpu} in
    cpu)
      pip install --no-deps --no-index --find-links /wheels "$torch" ||
        pip install --no-deps --retries 1 --index-url https://download.pytorch.org/whl/cpu "$torch" ||
        echo "PyTorch's index of CPU builds cannot be reached: the configured index decides which build it is" >&2 ;;
    cuda)
      pip install --constraint constraints.txt "$torch"
      python -c 'import torch; raise SystemExit(torch.version.cuda is None)' ||
        { echo "TORCH=cuda: the configured package index gave a PyTorch without CUDA" >&2; exit 1; } ;;
    *) echo "TORCH=$TORCH: use cpu or cuda" >&2; exit 1 ;;
  esac
fi
pip install --find-links /wheels --constraint constraints.txt --requirement /tmp/requirements.txt
