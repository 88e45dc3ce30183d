#!/bin/sh
# A switch that gets a gateway address while it is in use: then the node is on it, too.
# Needs root and a running `netd daemon`.
set -eu

netd network create switch --gateway none --subnet 10.73.0.0/24 --subnet fd73::/64
netd ns add red
netd ns add blue
netd attach red --network switch --ip 10.73.0.2 --ip fd73::2
netd attach blue --network switch --ip 10.73.0.3 --ip fd73::3

echo "== red reaches blue, the node reaches nobody"
netd ns exec red ping -c 1 -W 5 10.73.0.3
netd ns exec red ip route
if ip addr | grep -q 10.73.0; then
    echo "the node is on the switch already?"
    exit 1
fi

# The gateway: an address of the node on the switch, and a way out for those who have none.
#   ip addr add 10.73.0.1/24 dev br0; ip addr add fd73::1/64 dev br0
#   ip -n red route add default via 10.73.0.1; ip -n red route add default via fd73::1; ...
netd network set switch --gateway 10.73.0.1 --gateway fd73::1

echo "== node and namespaces reach each other"
ping -c 1 -W 5 10.73.0.2
ping -c 1 -W 5 fd73::3
netd ns exec red ping -c 1 -W 5 10.73.0.1
netd ns exec blue ping -c 1 -W 5 fd73::1

echo "== red still reaches blue, and has a way out"
netd ns exec red ping -c 1 -W 5 10.73.0.3
netd ns exec red ip route
netd ns exec red ip -6 route
netd network inspect switch

# Cleaning up.
netd detach red
netd detach blue
netd network rm switch
netd ns del red
netd ns del blue
echo "== done"
