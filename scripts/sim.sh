#!/usr/bin/env bash
# Simulations on virtual time: scripts/sim.sh main|mutants [--only raft|cluster] [ARG...]; see docs/hacking.md.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1
shift
only=
args=()
while [ $# -gt 0 ]; do
  if [ "$1" = --only ] && { [ "${2:-}" = raft ] || [ "${2:-}" = cluster ]; }; then
    only=$2
    shift 2
  else
    args+=("$1")
    shift
  fi
done
scripts/setup.sh
status=0
for part in raft:raft/sim cluster:daemon/sim; do
  [ -z "$only" ] || [ "$only" = "${part%%:*}" ] || continue
  echo "== ${part%%:*}"
  npx --no-install tsx "${part##*:}/$program.ts" ${args[@]+"${args[@]}"} || status=1
done
exit $status
