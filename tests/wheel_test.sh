#!/usr/bin/env bash
# Installs a wheel in a fresh environment and runs the quickstart and the tests in an empty folder, without the repository.
#   bash tests/wheel_test.sh dist/edgecr-….whl
set -euo pipefail
wheel=$(realpath "$1")
tests=$(cd "$(dirname "$0")" && pwd)
constraints=$(realpath "$tests/../constraints.txt")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip --disable-pip-version-check install -q -c "$constraints" "${wheel}[openvino]" pytest hypothesis types-PyYAML
mkdir empty && cd empty
../venv/bin/edgecr compress quickstart || test $? -eq 1
ls runs/*/report.html
cp -r "$tests" tests
printf '[pytest]\naddopts = -q -ra\nmarkers =\n    slow: takes more than ten seconds\n' > pytest.ini
../venv/bin/python -m pytest tests
