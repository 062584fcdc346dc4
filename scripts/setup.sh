#!/usr/bin/env bash
# Installs what this checkout needs and builds it: Debian packages (as root, only those that are missing), npm packages
# (only when the lockfile has changed), dist/ (only when a source has changed). Safe to run again; then it is quick.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

need() { # program package
  command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

install_system_packages() {
  local missing=()
  need runc runc
  need conmon conmon
  need ip iproute2
  need nft nftables
  need wireguard-go wireguard-go
  need wg wireguard-tools
  need tar tar
  need zstd zstd
  need nsenter util-linux
  need docker-registry docker-registry
  need curl curl
  need tini tini
  need ps procps
  need hostname hostname
  need xz xz-utils
  need bzip2 bzip2
  # For the tests alone: other ends of connections, certificates and attributes read by other programs.
  need socat socat
  need tcpdump tcpdump
  need openssl openssl
  need getfattr attr
  # Docker's own engine, for the comparison (e2e/differential): started by the tests alone, in namespaces of their own.
  need dockerd docker.io
  [ -x /bin/busybox ] && /bin/busybox --help 2>&1 | grep -q httpd || missing+=(busybox-static)
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    say "setup: missing packages: ${missing[*]}. Install them as root: apt-get install ${missing[*]}"
    exit 1
  fi
  if ! command -v apt-get >/dev/null 2>&1; then
    say "setup: missing programs for packages: ${missing[*]}; this is no Debian system, install them by hand"
    exit 1
  fi
  say "setup: installing ${missing[*]}"
  local log
  log=$(mktemp)
  # Registries and engines are started by the tests, on demand: a service that comes with a package stays off.
  local unit fresh=()
  for unit in docker-registry.service docker.service docker.socket containerd.service; do
    [ -e "/lib/systemd/system/$unit" ] || fresh+=("$unit")
  done
  start_no_services
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    say "setup: apt-get could not install ${missing[*]}"
    exit 1
  fi
  rm -f "$log"
  # Nor are they wanted after the next boot. `--root` works where no systemd runs, and starts and stops nothing.
  [ ${#fresh[@]} -eq 0 ] || systemctl --root=/ disable "${fresh[@]}" >/dev/null 2>&1 || true
}

# Packages start their services when they are installed, unless Debian's policy hook forbids it. A hook that is there is kept.
start_no_services() {
  local hook=/usr/sbin/policy-rc.d
  [ -e "$hook" ] && return 0
  printf '#!/bin/sh\nexit 101\n' >"$hook"
  chmod 755 "$hook"
  # shellcheck disable=SC2064 # the name of now
  trap "rm -f '$hook'" EXIT
}

check_node() {
  if ! command -v node >/dev/null 2>&1 || ! node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major >= 24 ? 0 : 1)'; then
    say "setup: Node.js ^20.19, ^22.12 or >=24 is needed; found: $(node --version 2>/dev/null || echo none)"
    exit 1
  fi
}

install_npm_packages() {
  local want have
  want=$(sha256sum package-lock.json | cut -d' ' -f1)
  have=$(cat node_modules/.shoal-lock 2>/dev/null || true)
  [ "$want" = "$have" ] && return 0
  say "setup: installing npm packages"
  local log
  log=$(mktemp)
  # Not `npm ci`: it refuses a lockfile whose optional packages for other systems the registry at hand does not carry.
  # With --no-save the lockfile is obeyed and left alone all the same.
  if ! npm install --no-save --no-audit --no-fund --ignore-scripts >"$log" 2>&1; then
    tail -20 "$log" >&2
    exit 1
  fi
  rm -f "$log"
  echo "$want" >node_modules/.shoal-lock
}

build() {
  local stamp=dist/.stamp
  if [ -f "$stamp" ] && [ -z "$(find . -path ./node_modules -prune -o -path ./dist -prune -o -name '*.ts' -newer "$stamp" -print -quit)" ]; then
    return 0
  fi
  say "setup: build"
  npx --no-install tsx scripts/build.ts
  touch "$stamp"
}

check_node
install_system_packages
install_npm_packages
build
