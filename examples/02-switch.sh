#!/bin/sh
# Three namespaces on a switch, and nobody else.
# Needs root and a running `netd daemon`.
set -eu

# The switch. Without a gateway neither the node nor the outside is on it.
#   ip link add br0 type bridge; ip link set br0 up
netd network create switch --gateway none --subnet 10.72.0.0/24 --subnet fd72::/64

# Each namespace with a cable to the switch.
#   ip netns add red; ip link add red0 type veth peer name eth0 netns red
#   ip link set red0 master br0; ip link set red0 up
#   ip -n red addr add 10.72.0.2/24 dev eth0; ip -n red link set eth0 up
netd ns add red
netd ns add green
netd ns add blue
netd attach red --network switch --ip 10.72.0.2 --ip fd72::2
netd attach green --network switch --ip 10.72.0.3 --ip fd72::3
netd attach blue --network switch --ip 10.72.0.4 --ip fd72::4

echo "== who is on the switch"
netd endpoint ls

echo "== everybody reaches everybody"
netd ns exec red ping -c 1 -W 5 10.72.0.3
netd ns exec red ping -c 1 -W 5 fd72::4
netd ns exec green ping -c 1 -W 5 10.72.0.4
netd ns exec green ping -c 1 -W 5 fd72::2
netd ns exec blue ping -c 1 -W 5 10.72.0.2
netd ns exec blue ping -c 1 -W 5 fd72::3

# Which MAC is behind which device.
#   bridge fdb show br br0
echo "== the forwarding table"
netd fdb ls

# Cleaning up.
netd detach red
netd detach green
netd detach blue
netd network rm switch
netd ns del red
netd ns del green
netd ns del blue
echo "== done"
