#!/bin/sh
# Networks, endpoints and published ports as one file: made, changed, looked at before, deleted.
# Needs root, `socat` and a running `netd daemon`.
set -eu
DIR=$(dirname "$0")
WORK=$(mktemp -d)

# The namespaces are there before: a file attaches them, it does not make them.
netd ns add web
netd ns add db
netd ns exec web socat TCP4-LISTEN:80,reuseaddr,fork SYSTEM:'echo hello $SOCAT_PEERADDR' &
server=$!

echo "== what would be done; the exit status 3 says that it is something"
status=0
netd plan -f "$DIR/shop.toml" || status=$?
[ "$status" = 3 ]

echo "== it is done; asked for a second time it changes nothing"
netd apply -f "$DIR/shop.toml"
netd apply -f "$DIR/shop.toml"
netd ns exec db ping -c1 "$(netd ns exec web ip -o -4 addr show eth1 | awk '{ sub("/.*", "", $4); print $4 }')"
socat -u TCP:127.0.0.1:8078,retry=50,interval=0.1 STDOUT

echo "== a change: one port less; only that goes, with the flows that came in by it"
cp "$DIR/shop.toml" "$WORK/shop.toml"
sed -i '/^\[\[publish\]\]/,$d' "$WORK/shop.toml"
netd plan -f "$WORK/shop.toml" --prune -v || [ $? = 3 ]
netd apply -f "$WORK/shop.toml" --prune

echo "== what is there, as a file that changes nothing"
netd export --owner file:shop >"$WORK/export.toml"
netd plan -f "$WORK/export.toml" --prune

# Cleaning up.
netd delete -f "$DIR/shop.toml"
kill $server
netd ns del web
netd ns del db
rm -r "$WORK"
echo "== done"
