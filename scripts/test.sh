#!/usr/bin/env bash
# Everything that CI runs. Sets up what is missing; ends with one line "N passed, N failed" over all suites.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
exec npx --no-install tsx scripts/test.ts "$@"
