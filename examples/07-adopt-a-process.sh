#!/bin/sh
# A process that has a namespace of its own, made by somebody else, joins a network by its pid.
# Needs root and a running `netd daemon`.
set -eu

# Somebody's process in a namespace without a name: a container, a sandbox.
unshare --net sleep 600 &
process=$!
until [ "$(readlink /proc/$process/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do
    sleep 0.1
done

# Its namespace gets a name, so that it can be looked into.
#   touch /run/netns/guest; mount --bind /proc/$process/ns/net /run/netns/guest
netd ns adopt guest pid:$process

# And a place on a network. `netd attach pid:$process` would do without the name.
#   ip link add ... peer name eth0 netns $process, addresses, routes, as in the other examples
netd network create web --subnet 10.77.0.0/24 --subnet fd77::/64
netd attach pid:$process --network web --name guest --ip 10.77.0.2 --ip fd77::2
netd ns add box
netd attach box --network web --ip 10.77.0.3 --ip fd77::3

echo "== the process and a namespace reach each other"
netd ns exec guest ping -c 1 -W 5 10.77.0.3
netd ns exec box ping -c 1 -W 5 fd77::2

echo "== its namespace has a name now"
netd ns ls

# Cleaning up. The name of a namespace is not the namespace: that one goes with its process.
netd detach guest
netd detach box
netd network rm web
netd ns del guest
netd ns del box
kill $process
echo "== done"
