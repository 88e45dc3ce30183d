#!/bin/sh
# Port 80 of the node leads to a server in a namespace (a published port, DNAT).
# Needs root, `socat` and a running `netd daemon`.
#
# CLIENT runs the client on another machine, say CLIENT="ssh laptop"; left out, the node itself asks.
# NODE and NODE6 are the node's addresses; left out, the first ones it has.
set -eu
CLIENT=${CLIENT:-}
NODE=${NODE:-$(ip -o -4 addr show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')}
NODE6=${NODE6:-$(ip -o -6 addr show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')}

# A server on port 80 in a namespace; it says who asked.
netd network create web --subnet 10.76.0.0/24 --subnet fd76::/64
netd ns add box
netd attach box --network web --ip 10.76.0.2 --ip fd76::2
netd ns exec box socat TCP4-LISTEN:80,reuseaddr,fork SYSTEM:'echo hello $SOCAT_PEERADDR' &
server=$!
netd ns exec box socat TCP6-LISTEN:80,ipv6only,reuseaddr,fork SYSTEM:'echo hello $SOCAT_PEERADDR' &
server6=$!

# The node's port 80, both families. The server sees the client's own address.
#   iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.76.0.2:80
#   iptables -A FORWARD -p tcp -d 10.76.0.2 --dport 80 -j ACCEPT
#   ip6tables ... the same for [fd76::2]:80
netd publish box-web 80:80

echo "== what is published"
netd published

echo "== a client asks the node's port 80"
$CLIENT socat -u "TCP:$NODE:80,retry=50,interval=0.1" STDOUT
if [ -n "$NODE6" ]; then
    $CLIENT socat -u "TCP:[$NODE6]:80,retry=50,interval=0.1" STDOUT
fi

# Cleaning up.
netd unpublish 80
kill $server $server6
netd detach box
netd network rm web
netd ns del box
echo "== done"
