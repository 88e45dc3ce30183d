#!/bin/sh
# A namespace reaches the outside, which sees the node's address (masquerade, SNAT).
# Needs root and a running `netd daemon`.
#
# Who is outside: the machine's default gateway, unless OUTSIDE and OUTSIDE6 name somebody else.
set -eu
OUTSIDE=${OUTSIDE:-$(ip route show default | awk '{ print $3; exit }')}
OUTSIDE6=${OUTSIDE6:-$(ip -6 route show default | awk '$3 !~ /^fe80/ { print $3; exit }')}

# Networks are masqueraded unless they say --no-masquerade or --internal. Neither ip_forward nor a
# netfilter rule is needed, and none is made.
#   sysctl net.ipv4.ip_forward=1
#   iptables -t nat -A POSTROUTING -s 10.75.0.0/24 ! -d 10.75.0.0/24 -j MASQUERADE
#   iptables -A FORWARD -s 10.75.0.0/24 -j ACCEPT
#   iptables -A FORWARD -d 10.75.0.0/24 -m state --state ESTABLISHED,RELATED -j ACCEPT
netd network create web --subnet 10.75.0.0/24 --subnet fd75::/64
netd ns add box
netd attach box --network web --ip 10.75.0.2 --ip fd75::2

echo "== the namespace reaches the outside"
netd ns exec box ping -c 1 -W 5 "$OUTSIDE"
if [ -n "$OUTSIDE6" ]; then
    netd ns exec box ping -c 1 -W 5 "$OUTSIDE6"
fi

# How each conversation is translated.
#   conntrack -L
echo "== what the outside sees"
netd flow ls

# Cleaning up.
netd detach box
netd network rm web
netd ns del box
echo "== done"
