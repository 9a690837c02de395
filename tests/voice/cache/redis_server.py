"""A redis-server of a test's own."""

import shutil
import subprocess
import time


class RedisServer:
    """One that is reached by a socket in `folder`, and can be ended and started again."""

    def __init__(self, folder):
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self.start()

    def start(self):
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed: apt install redis-server"
        options = ["--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, cwd=self.path.parent)
        deadline = time.monotonic() + 10
        while not self.path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.path.unlink(missing_ok=True)
