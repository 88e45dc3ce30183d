# Makes the calls given as JSON in the first argument, one after the other, each with a socket of its
# own, and prints what came of them as JSON: an error number's name, or what was seen.
import errno, json, socket, sys

DEVICE, RECVERR, RECVERR6 = 25, 11, 25


def make(call):
    v6 = call["socket"] == 6
    kind = socket.SOCK_STREAM if call["proto"] == "tcp" else socket.SOCK_DGRAM
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind, call.get("number", 0))
    s.settimeout(20)
    if kind == socket.SOCK_DGRAM:
        # Errors reach sockets that are not connected, too.
        s.setsockopt(socket.IPPROTO_IP, RECVERR, 1)
        if v6:
            s.setsockopt(socket.IPPROTO_IPV6, RECVERR6, 1)
    return s


def ask(call):
    s = make(call)
    if call.get("device"):
        s.setsockopt(socket.SOL_SOCKET, DEVICE, call["device"].encode())
    if call.get("bind"):
        s.bind((call["bind"], 0))
    to = (call["to"], call["port"])
    seen = {}
    if call["how"] == "connect":
        s.connect(to)
        seen["peer"] = "%s %d" % s.getpeername()[:2]
        s.send(b"netd\n")
    else:
        s.sendto(b"netd\n", to)
    answer, source = s.recvfrom(200)
    if call["proto"] == "udp":
        seen["source"] = "%s %d" % source[:2]
    seen["answer"] = answer.decode().strip()
    return seen


def bind(call):
    s = make(call)
    for option in call.get("options", []):
        s.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
    s.bind((call["to"], call["port"]))
    if call["proto"] == "tcp":
        s.listen()
    return {"answer": "bound"}


def run(call):
    try:
        return bind(call) if call["how"] == "bind" else ask(call)
    except socket.timeout:
        return {"error": "time-out"}
    except OSError as e:
        return {"error": errno.errorcode.get(e.errno, str(e))}


print(json.dumps([run(call) for call in json.loads(sys.argv[1])]))
