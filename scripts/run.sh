#!/usr/bin/env bash
# Runs one of the project's TypeScript programs with its set-up done: scripts/run.sh FILE.ts [ARG...]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
exec npx --no-install tsx "$@"
