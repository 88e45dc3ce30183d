#!/bin/sh
# The node and a namespace reach each other.
# Needs root, `socat` and a running `netd daemon`.
set -eu

# A network has a gateway unless it is told not to: the node's own address on it.
#   ip link add veth0 type veth peer name eth0 netns box
#   ip addr add 10.74.0.1/24 dev veth0; ip link set veth0 up
#   ip -n box addr add 10.74.0.2/24 dev eth0; ip -n box link set eth0 up
#   ip -n box route add default via 10.74.0.1
netd network create web --subnet 10.74.0.0/24 --subnet fd74::/64
netd ns add box
netd attach box --network web --ip 10.74.0.2 --ip fd74::2

echo "== the node's address on the network"
ip addr show dev nd-web

echo "== node to namespace"
ping -c 1 -W 5 10.74.0.2
ping -c 1 -W 5 fd74::2

echo "== namespace to node"
netd ns exec box ping -c 1 -W 5 10.74.0.1
netd ns exec box ping -c 1 -W 5 fd74::1

# A server in the namespace; it says who asked.
netd ns exec box socat TCP4-LISTEN:8000,reuseaddr,fork SYSTEM:'echo hello $SOCAT_PEERADDR' &
server=$!
netd ns exec box socat TCP6-LISTEN:8000,ipv6only,reuseaddr,fork SYSTEM:'echo hello $SOCAT_PEERADDR' &
server6=$!

echo "== the node asks the server in the namespace"
socat -u TCP:10.74.0.2:8000,retry=50,interval=0.1 STDOUT
socat -u TCP:[fd74::2]:8000,retry=50,interval=0.1 STDOUT

# Cleaning up.
kill $server $server6
netd detach box
netd network rm web
netd ns del box
echo "== done"
