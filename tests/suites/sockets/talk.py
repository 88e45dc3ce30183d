# Two connected sockets, TCP and UDP, to one address. For each line on standard input both ask once, and
# a line says what they saw.
import socket, sys

to = (sys.argv[1], int(sys.argv[2]))
family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
tcp = socket.socket(family, socket.SOCK_STREAM)
udp = socket.socket(family, socket.SOCK_DGRAM)
for s in tcp, udp:
    s.settimeout(20)
    s.connect(to)
for line in sys.stdin:
    seen = []
    for s in tcp, udp:
        s.send(line.encode())
        answer, source = s.recvfrom(200)
        name = s.getpeername()
        seen += [answer.decode().strip(), "%s %d" % name[:2]]
        if s is udp:
            seen.append("%s %d" % source[:2])
    print(", ".join(seen), flush=True)
