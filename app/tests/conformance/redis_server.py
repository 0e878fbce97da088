"""A private Redis for the tests, as services.py has RabbitMQ and memcached."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from services import answers, end, free_port, program, wait_until


@dataclass
class Redis:
    """One Redis, on loopback, that writes nothing to disk."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """Return Celery's form of the address."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [program(["redis-server"], "redis-server"), "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder), "--databases", "64"]
        self.process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: answers(self.port), 60, "Redis answering")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            end(self.process)
            self.process = None
