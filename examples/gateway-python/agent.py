"""One run of an agent's command line, which ends with the gateway at the latest."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field

LEASH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "leash.py")


@dataclass
class Answer:
    text: str = ""
    native_id: str = ""
    usage: dict = field(default_factory=dict)
    error: str | None = None


class Agent:
    """Takes the message on its standard input, and prints a JSON object as `claude -p` does."""

    def __init__(self, command, native_id):
        resume = ["--resume", native_id] if native_id else []
        held, self.leash = os.pipe()
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, LEASH, str(held), *command, *resume],
            pass_fds=(held,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        os.close(held)

    def ask(self, text):
        try:
            output, _ = self.process.communicate(text.encode())
        finally:
            self.end()
        if self.process.returncode != 0:
            return Answer(error=f"the agent ended with {self.process.returncode}")
        try:
            said = json.loads(output)
            usage = said.get("usage", {})
            return Answer(
                said["result"],
                said.get("session_id", ""),
                {
                    "input_tokens": usage.get("input_tokens", 0),
                    "cache_read_tokens": usage.get("cache_read_input_tokens", 0),
                    "cache_write_tokens": usage.get("cache_creation_input_tokens", 0),
                    "output_tokens": usage.get("output_tokens", 0),
                },
            )
        except (ValueError, KeyError) as error:
            return Answer(error=f"the agent's answer cannot be read: {error}")

    def end(self):
        """Any number of times, from any thread."""
        with self.lock:
            leash, self.leash = self.leash, None
        if leash is not None:
            os.close(leash)
