#!/bin/sh
# A cable between two namespaces: first a bare veth pair made by hand, then the same by netd.
# Needs root and a running `netd daemon`. Any line can be typed as it stands.
set -eu

# Two namespaces.
#   ip netns add red; ip netns add blue; ip -n red link set lo up; ip -n blue link set lo up
netd ns add red
netd ns add blue

# By hand: netd leaves foreign devices alone, and shows them.
ip -n red link add cable0 type veth peer name cable0 netns blue
ip -n red addr add 10.70.0.1/24 dev cable0
ip -n red addr add fd70::1/64 dev cable0 nodad
ip -n red link set cable0 up
ip -n blue addr add 10.70.0.2/24 dev cable0
ip -n blue addr add fd70::2/64 dev cable0 nodad
ip -n blue link set cable0 up

echo "== which veth is whose peer"
netd ns ls

echo "== red reaches blue by the bare pair"
netd ns exec red ping -c 1 -W 5 10.70.0.2
netd ns exec red ping -c 1 -W 5 fd70::2

ip -n red link del cable0

# By netd: a network without a gateway is a cable, as long as it has two ends. Addresses are given out,
# each end may only send with its own, and what is dropped is counted with its reason.
#   ip link add ... as above, twice ip addr add, twice ip link set up
netd network create cable --gateway none --subnet 10.71.0.0/24 --subnet fd71::/64
netd attach red --network cable --ip 10.71.0.1 --ip fd71::1
netd attach blue --network cable --ip 10.71.0.2 --ip fd71::2

echo "== red reaches blue by netd's cable"
netd ns exec red ping -c 1 -W 5 10.71.0.2
netd ns exec red ping -c 1 -W 5 fd71::2

echo "== both ends of red's veth"
netd endpoint inspect red-cable

# Cleaning up.
netd detach red
netd detach blue
netd network rm cable
netd ns del red
netd ns del blue
echo "== done"
