#!/usr/bin/env bash
# Brings a real swarm up on this machine and shows the main job: npm run demo [-- --keep]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
exec npx --no-install tsx lab/demo/main.ts "$@"
