#!/usr/bin/env bash
# The end-to-end suite alone, on lab hosts with real containers: scripts/e2e.sh [vitest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
exec npx --no-install vitest run --config e2e/vitest.config.ts "$@"
