"""Part of scripts/bench: what the verbs of docker-containerizer cost with 1, 10 and 100 containers.

The containers are real: custom executors that sleep. Verbs are started directly, and answered, as a slave does it.
"""

import fcntl
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import time
import uuid
from datetime import datetime, timezone

IMAGE = "launch-container/busybox"
FLEETS = (1, 10, 100)
# A container starts within seconds, also the hundredth on a small machine.
LIMIT_SECONDS = 120


class Fleet:
    """Containers of one slave, until the end of a with block."""

    def __init__(self, launcher, directory, environment):
        self.work = directory / f"fleet-{uuid.uuid4().hex[:8]}"
        self.work.mkdir()
        self.program = self.work / "docker-containerizer"
        self.program.symlink_to(launcher)
        self.environment = dict(
            environment,
            MESOS_WORK_DIRECTORY=str(self.work),
            MESOS_FRAMEWORK_ID="F",
            MESOS_EXECUTOR_ID="e",
            MESOS_SLAVE_ID="S",
            MESOS_SLAVE_PID="slave(1)@127.0.0.1:1",
            MESOS_CHECKPOINT="0",
        )
        self.ids = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for container in list(self.ids):
            self.destroy(container)

    def launch(self, script="sleep 1000000"):
        """Launches one; its id, and the seconds until `launch` returned and until the engine had started it."""
        container = str(uuid.uuid4())
        sandbox = self.work / "sandboxes" / container
        sandbox.mkdir(parents=True)
        command = field(3, script)
        docker = field(1, IMAGE)
        info = varint_field(1, 1) + field(3, docker)
        resources = scalar("cpus", 0.1) + scalar("mem", 32)
        executor = field(1, field(1, "e")) + resources + field(7, command) + field(8, field(1, "F")) + field(11, info)
        message = field(1, field(1, container)) + field(3, executor) + field(4, str(sandbox)) + field(6, field(1, "S"))
        self.ids.append(container)
        begin = time.time()
        took = self.run("launch", message)
        started = wait_for_start(f"mesos-{container}")
        return container, took, started - begin

    def destroy(self, container):
        took = self.run("destroy", about(container))
        self.ids.remove(container)
        return took

    def run(self, verb, message=None):
        """Seconds from start to end, with little but the verb between: its input lies ready in a file."""
        frame = self.work / "frame"
        frame.write_bytes(b"" if message is None else struct.pack("=I", len(message)) + message)
        files = [
            (os.POSIX_SPAWN_OPEN, 0, frame, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.work / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        begin = time.monotonic()
        pid = os.posix_spawn(self.program, [str(self.program), verb], self.environment, file_actions=files)
        _, status = os.waitpid(pid, 0)
        took = time.monotonic() - begin
        if status != 0:
            raise RuntimeError(f"{verb}: status {status:#x}: {(self.work / 'said').read_text().strip()}")
        return took

    def memory(self, verb, message=None):
        """Peak memory in MB: the process is looked at while its answer finds no room, or as often as can be."""
        frame = b"" if message is None else struct.pack("=I", len(message)) + message
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        try:
            while True:
                os.write(write_end, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(write_end, True)
        process = subprocess.Popen(
            [self.program, verb], env=self.environment, stdin=subprocess.PIPE, stdout=write_end, stderr=subprocess.DEVNULL
        )
        os.close(write_end)
        process.stdin.write(frame)
        process.stdin.flush()
        peak, deadline = 0, time.monotonic() + 0.25
        while process.poll() is None and time.monotonic() < deadline:
            peak = max(peak, high_water(process.pid))
        os.close(read_end)
        process.stdin.close()
        # What found no reader may say so by its exit code.
        process.wait(LIMIT_SECONDS)
        return peak

    def supervisor_memory(self):
        """MB that each living supervisor holds at most."""
        peaks = []
        for container in self.ids:
            pid = (self.work / "launch-container/containers" / container / "lock").read_text()
            peaks.append(high_water(int(pid)))
        return peaks

    def poll_usage(self, rounds):
        """CPU seconds of one `usage` as a slave starts it, through a shell."""
        before = os.times()
        for _ in range(rounds):
            for container in self.ids:
                message = about(container)
                frame = struct.pack("=I", len(message)) + message
                done = subprocess.run(["/bin/sh", "-c", f"{self.program} usage"], env=self.environment, input=frame, stdout=subprocess.PIPE)
                if done.returncode != 0:
                    raise RuntimeError(f"usage: exit {done.returncode}")
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        return spent / (rounds * len(self.ids))


def measure(launcher, directory, environment, runs, row, goal):
    """Fills the table, a fleet at a time."""
    nothing = statistics.median(seconds_of(["/bin/true"]) for _ in range(runs))
    for size in FLEETS:
        with Fleet(launcher, directory, environment) as fleet:
            for _ in range(size):
                fleet.launch()
            label = f"{size} container{'' if size == 1 else 's'}"
            measure_launches(fleet, label, runs, row, goal)
            measure_fleet(fleet, label, runs, nothing, row, goal)


def measure_launches(fleet, label, runs, row, goal):
    # By turns: what else the machine does slows both.
    launches, alone = [], []
    for _ in range(runs):
        launches.append(fleet.launch())
        fleet.destroy(launches[-1][0])
        alone.append(engine_start())
    create_and_start = statistics.median(alone)
    returned = statistics.median(launch[1] for launch in launches)
    started = statistics.median(launch[2] for launch in launches)
    extra = (started - create_and_start) * 1000
    row(
        f"launch, {label}: until it runs",
        ms(started),
        f"create + start: {ms(create_and_start)}; launch returns after {ms(returned)}",
        f"{extra:+.1f} ms",
        goal("at most +15 ms", extra <= 15),
    )


def measure_fleet(fleet, label, runs, nothing, row, goal):
    one = fleet.ids[0]
    times = {}
    for verb, message, limit in [
        ("usage", about(one), 2),
        ("containers", None, 20),
        ("recover", None, 20),
        ("update", about(one) + scalar("cpus", 0.1, number=2) + scalar("mem", 32, number=2), None),
    ]:
        times[verb] = statistics.median(fleet.run(verb, message) for _ in range(runs))
        peak = max(fleet.memory(verb, message) for _ in range(3))
        milliseconds = times[verb] * 1000
        row(
            f"{verb}, {label}",
            ms(times[verb]),
            f"/bin/true: {ms(nothing)}" + (f"; peak {peak:.1f} MB" if peak > 1 else ""),
            "",
            goal(f"{limit} ms", milliseconds <= limit) if limit else "",
        )
    destroyed = []
    for _ in range(min(runs, 7)):
        container, _, _ = fleet.launch("true")
        wait_for_supervisor(fleet, container)
        destroyed.append(fleet.destroy(container))
    took = statistics.median(destroyed)
    row(f"destroy of an ended container, {label}", ms(took), "", "", goal("30 ms", took <= 0.030))
    running = fleet.launch()[0]
    row(f"destroy of a running container, {label}", ms(fleet.destroy(running)), "one run", "", "")

    cores = fleet.poll_usage(max(1, 200 // len(fleet.ids))) * 100
    row(f"usage of 100 containers each second, {label}", f"{cores:.3f} cores", "through /bin/sh, as a slave does", "", goal("0.25 cores", cores <= 0.25))
    peaks = fleet.supervisor_memory()
    row(f"supervisor's memory, {label}", f"{statistics.median(peaks):.1f} MB", f"most {max(peaks):.1f} MB", "", "")


def engine_start():
    """Seconds from the request to create until the container has started, by the engine's clock, with nothing between."""
    name = f"launch-container-bench-{uuid.uuid4().hex[:8]}"
    body = {
        "Image": IMAGE,
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "sleep 1000000"],
        "HostConfig": {"NetworkMode": "host", "Memory": 32 << 20, "CpuShares": 102, "Init": True, "LogConfig": {"Type": "none"}},
    }
    begin = time.time()
    engine("POST", f"/containers/create?name={name}", body)
    try:
        engine("POST", f"/containers/{name}/start")
        return wait_for_start(name) - begin
    finally:
        engine("DELETE", f"/containers/{name}?force=true&v=true")


def wait_for_start(name):
    """When the engine had started it, in seconds since the epoch; nothing is asked while it does so."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.05)
        found = engine("GET", f"/containers/{name}/json", missing_is_fine=True)
        if found and not found["State"]["StartedAt"].startswith("0001-"):
            return epoch(found["State"]["StartedAt"])
        # A short one may be gone already.
        if found is None and name.startswith("mesos-") and time.monotonic() > deadline - LIMIT_SECONDS + 3:
            return time.time()
    raise RuntimeError(f"{name} does not start")


def wait_for_supervisor(fleet, container):
    with open(fleet.work / "launch-container/containers" / container / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


class EngineConnection(http.client.HTTPConnection):
    """HTTP over the engine's socket, or its port."""

    def __init__(self):
        super().__init__("engine", timeout=LIMIT_SECONDS)

    def connect(self):
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if address.startswith("unix://"):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.connect(address.removeprefix("unix://"))
        else:
            host, port = address.split("://")[1].rstrip("/").rsplit(":", 1)
            self.sock = socket.create_connection((host, int(port)))


def engine(method, path, body=None, missing_is_fine=False):
    connection = EngineConnection()
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status == 404 and missing_is_fine:
        return None
    if answer.status >= 400:
        raise RuntimeError(f"the engine answers {method} {path} with {answer.status}: {content.decode(errors='replace').strip()}")
    return json.loads(content) if content else {}


def epoch(text):
    """Seconds since the epoch of the engine's nanoseconds."""
    whole, fraction = re.fullmatch(r"(.*?)(\.\d+)?Z", text).groups()
    return datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp() + float(fraction or 0)


def high_water(pid):
    try:
        found = re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found.group(1)) / 1024 if found else 0


def seconds_of(words):
    begin = time.monotonic()
    os.waitpid(os.posix_spawn(words[0], words, os.environ), 0)
    return time.monotonic() - begin


def about(container):
    """Every verb's message begins so."""
    return field(1, field(1, container))


def scalar(name, value, number=5):
    return field(number, field(1, name) + varint_field(2, 0) + field(3, b"\x09" + struct.pack("<d", value)))


def field(number, content):
    """A length-delimited field of a protobuf message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint_field(number, value):
    return varint(number << 3) + varint(value)


def varint(value):
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def ms(seconds):
    return f"{seconds * 1000:.1f} ms"
