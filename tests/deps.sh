#!/bin/sh
# deps.sh - install the Debian packages named in $PACKAGES that are missing, or say how.
set -eu
missing=
for p in $PACKAGES; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo='sudo -n'
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing; }
echo "deps: installing$missing" >&2
if { [ -z "$sudo" ] || $sudo true 2>/dev/null; } &&
   { install >/dev/null 2>&1 || { $sudo apt-get update -qq && install >/dev/null; }; }; then
    exit 0
fi
echo "deps: run this once as root: apt-get update && apt-get install -y$missing" >&2
exit 1
