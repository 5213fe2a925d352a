#!/usr/bin/env bash
# Installs Prometheus and Alertmanager from the system's packages, for the tests that run the real ones.
# It never fails what calls it: without them those tests are skipped and say so.
set -uo pipefail

packages="prometheus prometheus-alertmanager"
commands="promtool amtool prometheus prometheus-alertmanager"

missing() {
    local one
    for one in $commands; do command -v "$one" >/dev/null || return 0; done
    return 1
}

without() {
    echo "system tools: $1; tests that need Prometheus or Alertmanager are skipped"
    exit 0
}

missing || { echo "system tools: Prometheus and Alertmanager are here"; exit 0; }
command -v apt-get >/dev/null || without "this system has no apt-get"
[ "$(id -u)" = 0 ] || without "only root may install $packages"

# Packages ask this file whether their service may be started; 101 says no. It stays as it was
# where the system has one.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
install="apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $packages"
log=$(mktemp)
timeout 300 $install >"$log" 2>&1 || {
    timeout 120 apt-get update -qq >>"$log" 2>&1
    timeout 300 $install >>"$log" 2>&1
}
missing && { tail -3 "$log"; rm -f "$log"; without "apt-get could not install $packages"; }
rm -f "$log"
echo "system tools: installed $packages; their services were not started"
