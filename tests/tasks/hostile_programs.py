"""Programs that attack the sandbox or its verdict, each a solution of `add(a, b)` that is none.

`Targets` are what they aim at; a test checks that nothing there was touched.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import aquachat

ENTRY_POINT = "add"
PROMPT = 'def add(a, b):\n    """Add two numbers."""\n'
SOLUTION = "def add(a, b):\n    return a + b\n"
TESTS = "def check(candidate):\n    for a in range(9):\n        assert candidate(a, 7) == a + 7\n"
SECRET = "the-secret-of-the-parent"


@dataclass(frozen=True)
class Targets:
    """What must stay as it is."""

    folder: Path
    """Anybody may write here."""
    victim_pid: int
    """A process of the same user."""
    tcp_port: int
    unix_socket: Path
    inherited_fd: int

    def format(self, source: str) -> str:
        """The source with the targets in their places."""
        values = {
            "FOLDER": str(self.folder),
            "VICTIM": self.victim_pid,
            "PARENT": os.getpid(),
            "PORT": self.tcp_port,
            "SOCKET": str(self.unix_socket),
            "FD": self.inherited_fd,
            "PACKAGE": str(Path(aquachat.__file__).parent),
        }
        head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        return head + source


def _wrong(code: str) -> str:
    """Attack, then define a function that is wrong."""
    return f"{code}\ndef add(a, b):\n    return None\n"


def _inside(code: str) -> str:
    """Attack when called."""
    body = "".join(f"    {line}\n" for line in code.strip().split("\n"))
    return f"def add(a, b):\n{body}"


_TRY_ALL = """
def attempt(*functions):
    for function in functions:
        try:
            print(function())
        except BaseException as error:
            print(type(error).__name__)
"""

_C_SOCKETS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
internet = (2).to_bytes(2, "little") + PORT.to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8)
unix = (1).to_bytes(2, "little") + SOCKET.encode() + bytes(1)
def reach(family, kind, address):
    fd = libc.socket(family, kind, 0)
    return fd, libc.connect(fd, address, len(address)), libc.write(fd, b"x", 1)
"""

EXHAUSTING = {
    "fork bomb": (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    ),
    "fork bomb that gives up": _wrong("import os\nfor _ in range(9):\n    os.fork()\n"),
    "daemon by a double fork": _wrong(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        while True:\n            time.sleep(1)\n    os._exit(0)\n"
    ),
    "memory bomb": _wrong("data = []\nwhile True:\n    data.append(bytearray(10**7))\n"),
    "one huge allocation": _inside("return 'x' * 10**11"),
    "huge power": _inside("return 9 ** 9 ** 9"),
    "endless output": "while True:\n    print('x' * 1000)\n",
    "endless error output": "import sys\nwhile True:\n    sys.stderr.write('x' * 1000)\n",
    "endless output of a descriptor": "import os\nwhile True:\n    os.write(1, b'x' * 65536)\n",
    "infinite loop": "while True:\n    pass\n",
    "infinite loop in the function": _inside("while True:\n    pass"),
    "sleeps forever": _inside("import time\ntime.sleep(10**6)"),
    "ignores all signals": (
        "import signal\nfor number in range(1, 65):\n    try:\n"
        "        signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n"
        "        pass\nwhile True:\n    pass\n"
    ),
    "catches everything": (
        "import time\nwhile True:\n    try:\n        time.sleep(9)\n"
        "    except BaseException:\n        pass\n"
    ),
    "catastrophic regex": _inside("import re\nreturn re.match('(a+)+$', 'a' * 64 + 'b')"),
    "many threads": _wrong(
        "import threading, time\nfor _ in range(10**4):\n"
        "    threading.Thread(target=time.sleep, args=(99,)).start()\n"
    ),
    "deep recursion": _inside(
        "import sys\nsys.setrecursionlimit(10**9)\n"
        "def f(n):\n    return [f(n + 1) for _ in (0,)]\nreturn f(0)"
    ),
    "deep recursion in C": _inside(
        "import sys\nsys.setrecursionlimit(10**9)\nx = []\nx.append(x)\n"
        "y = []\nfor _ in range(10**6):\n    y = [y]\nreturn repr(y)"
    ),
    "huge file": _wrong(
        "with open('big', 'wb') as file:\n    while True:\n        file.write(b'x' * 10**6)\n"
    ),
    "many files": _wrong("for i in range(10**6):\n    open(str(i), 'w').close()\n"),
    "huge exception message": _inside("raise ValueError('x' * 10**8)"),
    "huge answer": _inside("return 'x' * 10**8"),
    "endless generator": _inside("import itertools\nreturn itertools.count()"),
    "anonymous files": _wrong(
        "import os\nfds = [os.memfd_create(str(i)) for i in range(9)]\n"
        "while True:\n    [os.write(fd, b'x' * 10**6) for fd in fds]\n"
    ),
    "pipes": _wrong("import os\nwhile True:\n    os.pipe()\n"),
}

CRASHING = {
    "segmentation fault": _inside("import ctypes\nctypes.string_at(0)"),
    "nested parentheses": "(" * 50_000 + ")" * 50_000,
    "nested minus signs": "x = " + "-" * 10**5 + "1\n",
    "nested answer": _inside("x = []\nfor _ in range(10**5):\n    x = [x]\nreturn x"),
    "answer that holds itself": _inside("x = []\nx.append(x)\nreturn x"),
    "aborts": _inside("import os\nos.abort()"),
    "kills itself": _inside("import os\nos.kill(os.getpid(), 9)"),
    "invalid UTF-8": _inside("import os\nos.write(1, bytes(range(256)))\nreturn None"),
    "lone surrogates": _inside("print('\\ud800')\nreturn '\\ud800'"),
    "null byte": "x = '\0'\n",
    "no Python": "this is not Python at all",
    "waits for input": _inside("return input()"),
    "closes its files": _inside(
        "import os\nfor fd in range(64):\n    try:\n        os.close(fd)\n"
        "    except OSError:\n        pass\nreturn a + b"
    ),
    "exception without a text": _inside(
        "class E(Exception):\n    def __str__(self):\n        raise self\n"
        "    __repr__ = __str__\nraise E"
    ),
}

REACHING_OUT = {
    "reads the parent's environment": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(*(lambda pid=pid: open(f'/proc/{pid}/environ').read()"
        " for pid in (PARENT, VICTIM, 1, os.getppid(), 'self')), lambda: dict(os.environ))\n"
    ),
    "looks around": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(*(lambda p=p: os.listdir(p) for p in (FOLDER, PACKAGE, '/etc', '/proc', '/dev')),"
        " lambda: open('/etc/passwd').read(), lambda: open(PACKAGE + '/errors.py').read(),"
        " lambda: open('/dev/mem', 'rb').read(1), lambda: open('/dev/kmsg', 'w'))\n"
    ),
    "writes outside": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(*(lambda p=p: open(p + '/planted', 'w').write('x')"
        " for p in (FOLDER, PACKAGE, '/tmp', '/var/tmp', '/dev/shm', '/')),"
        " lambda: os.mkdir(FOLDER + '/made'), lambda: os.symlink('/etc', FOLDER + '/link'))\n"
    ),
    "deletes": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(lambda: os.unlink(FOLDER + '/kept'), lambda: os.rename(FOLDER + '/kept', 'x'),"
        " lambda: os.truncate(FOLDER + '/kept', 0), lambda: os.rmdir(FOLDER))\n"
    ),
    "changes rights": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(lambda: os.chmod(FOLDER + '/kept', 0), lambda: os.chown(FOLDER, 1, 1),"
        " lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: os.utime(FOLDER))\n"
    ),
    "climbs out by symbolic links": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(lambda: os.symlink(FOLDER, 'out'), lambda: open('out/planted', 'w').write('x'),"
        " lambda: os.chroot('.'), lambda: open('../' * 20 + FOLDER + '/planted', 'w'))\n"
    ),
    "kills": _wrong(
        _TRY_ALL + "import os, signal\n"
        "attempt(*(lambda pid=pid: os.kill(pid, signal.SIGKILL)"
        " for pid in (VICTIM, PARENT, os.getppid() or VICTIM)),"
        " lambda: os.killpg(0, 9), lambda: os.killpg(PARENT, 9), lambda: os.kill(-1, 9))\n"
    ),
    "kills by the owner of a file": _wrong(
        _TRY_ALL + "import fcntl, os, signal\nr, w = os.pipe()\n"
        "attempt(lambda: fcntl.fcntl(r, 10, signal.SIGKILL), lambda: fcntl.fcntl(r, 8, VICTIM),"
        " lambda: fcntl.fcntl(r, 4, os.O_ASYNC), lambda: os.write(w, b'x'))\n"
    ),
    "starves by limits": _wrong(
        _TRY_ALL + "import resource\n"
        "attempt(*(lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))"
        " for pid in (VICTIM, PARENT)))\n"
    ),
    "lifts its own limits": (
        _TRY_ALL + "import resource\n"
        "attempt(lambda: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1)),"
        " lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))\n"
        "data = []\nwhile True:\n    data.append(bytearray(10**7))\n"
    ),
    "traces": _wrong(
        _TRY_ALL + "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "attempt(*(lambda n=n: libc.ptrace(n, VICTIM, 0, 0) for n in (16, 0x4206)),"
        " lambda: libc.prctl(4, 1), lambda: libc.unshare(0x10000000),"
        " lambda: libc.syscall(310, VICTIM, 0, 0, 0, 0, 0),"
        " lambda: libc.mount(b'a', b'/', b'tmpfs'))\n"
    ),
    "connects by TCP": _wrong(
        _TRY_ALL + "import socket\n"
        "attempt(lambda: socket.create_connection(('127.0.0.1', PORT), 1).send(b'x'),"
        " lambda: socket.getaddrinfo('example.com', 80))\n"
    ),
    "sends by UDP": _wrong(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.sendto(b'x', ('127.0.0.1', PORT))\n"
    ),
    "connects to a UNIX socket": _wrong(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(SOCKET)\ns.send(b'x')\n"
    ),
    "makes sockets by system calls": _wrong(
        "import _socket\nfor family in range(45):\n    for kind in (1, 2, 3):\n        try:\n"
        "            _socket.socket(family, kind)\n            print('a socket')\n"
        "        except OSError:\n            pass\n"
    ),
    "connects by the C library": _wrong(
        _TRY_ALL
        + _C_SOCKETS
        + "attempt(lambda: reach(2, 1, internet), lambda: reach(2, 2, internet),"
        " lambda: reach(1, 1, unix))\n"
    ),
    "starts a shell": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(lambda: os.system('touch ' + FOLDER + '/planted'),"
        " lambda: os.execv('/bin/sh', ['sh', '-c', 'touch ' + FOLDER + '/planted']),"
        " lambda: os.posix_spawn('/bin/sh', ['sh', '-c', 'touch ' + FOLDER + '/planted'], {}))\n"
    ),
    "uses inherited files": _wrong(
        _TRY_ALL + "import os\n"
        "attempt(*(lambda fd=fd: os.read(fd, 99) for fd in (FD, *range(6, 40))),"
        " *(lambda fd=fd: os.write(fd, b'x') for fd in (FD, *range(6, 40))))\n"
    ),
}

FORGING = {
    "ends early": "import sys\nsys.exit(0)\n",
    "ends early without clean-up": "import os\nos._exit(0)\n",
    "ends early in the function": _inside("import sys\nsys.exit(0)"),
    "ends in the function without clean-up": _inside("import os\nos._exit(0)"),
    "ends at exit": _wrong("import atexit, os\natexit.register(os._exit, 0)\n"),
    "equals everything": (
        "class Yes:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "def add(a, b):\n    return Yes()\n"
    ),
    "a number that equals everything": (
        "class Yes(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "    def __ne__(self, other):\n        return False\n"
        "def add(a, b):\n    return Yes(5)\n"
    ),
    "replaces built-in names": _wrong(
        "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\n"
        "builtins.range = lambda *a: []\nbuiltins.eval = builtins.exec = lambda *a: None\n"
    ),
    "defines check": _wrong("def check(candidate):\n    return True\n"),
    "finds check in other frames": _wrong(
        "import gc, sys\n"
        "for thing in gc.get_objects():\n    if isinstance(thing, dict) and 'check' in thing:\n"
        "        thing['check'] = lambda candidate: None\n"
        "frame = sys._getframe()\nwhile frame:\n    frame.f_globals['check'] = lambda c: None\n"
        "    frame.f_globals['_judge'] = lambda *a: None\n    frame = frame.f_back\n"
    ),
    "reads the tests in its memory": (
        "import gc, sys\n"
        "seen, left, texts = set(), gc.get_objects(), []\n"
        "frame = sys._getframe()\n"
        "while frame:\n    left += [*frame.f_locals.values(), *frame.f_globals.values()]\n"
        "    frame = frame.f_back\n"
        "while left:\n    thing = left.pop()\n    if id(thing) in seen:\n        continue\n"
        "    seen.add(id(thing))\n"
        "    if isinstance(thing, (str, bytes)):\n        texts.append(str(thing))\n"
        "    elif isinstance(thing, dict):\n        left += [*thing.keys(), *thing.values()]\n"
        "    elif isinstance(thing, (list, tuple, set)):\n        left += list(thing)\n"
        "mark = 'def ' + 'check'\n"
        "found = any(mark in text and '== a ' + '+ 7' in text for text in texts)\n"
        "def add(a, b):\n    return a + b if found else None\n"
    ),
    "replaces modules": _wrong(
        "import sys\nfor name in list(sys.modules):\n    if name not in ('sys', 'builtins'):\n"
        "        sys.modules[name] = None\n"
    ),
    "replaces the encoder": _wrong(
        "import sys\n"
        "guest = sys.modules.get('aquachat.tasks.sandbox.guest')\n"
        "guest.encode = lambda value, depth=0: ['opaque']\n"
    ),
    "sends answers ahead": (
        "import os\n"
        'message = b\'["value", ["literal", true]]\'\n'
        "for fd in range(3, 20):\n    for _ in range(99):\n        try:\n"
        "            os.write(fd, len(message).to_bytes(4, 'big') + message)\n"
        "        except OSError:\n            break\n"
        "def add(a, b):\n    return True\n"
    ),
    "sends garbage": (
        "import os\nfor fd in range(3, 20):\n    try:\n        os.write(fd, b'\\xff' * 4096)\n"
        "    except OSError:\n        pass\ndef add(a, b):\n    return a + b\n"
    ),
    "sends nested messages": (
        "import os\nbody = b'[' * 10**5\nfor fd in range(3, 20):\n    try:\n"
        "        os.write(fd, len(body).to_bytes(4, 'big') + body)\n"
        "    except OSError:\n        pass\ndef add(a, b):\n    return a + b\n"
    ),
    "prints a verdict": _wrong(
        "import os\nfor fd in (1, 2):\n    os.write(fd, b'ok\\npassed\\n{\"programs\": []}')\n"
        'os.write(1, b\'{"reason": "", "programs": [{"exit_code": 0, "cpu_s": 0}]}\')\n'
    ),
    "has no such function": "def subtract(a, b):\n    return a - b\n",
    "has a name that is no function": "add = 5\n",
    "learns from the first call": (
        "seen = []\ndef add(a, b):\n    seen.append((a, b))\n    return seen[0][0] + seen[0][1]\n"
    ),
}

HOSTILE = {**EXHAUSTING, **CRASHING, **REACHING_OUT, **FORGING}
