"""Runs a command for as long as somebody holds the other end of a pipe: leash.py FD COMMAND...

The system closes that end with the process that holds it, however it dies, so
that no agent outlives its gateway and works beside the next one.
"""

import os
import signal
import subprocess
import sys
import threading


def main(held, *command):
    agent = subprocess.Popen(command, start_new_session=True)

    def end():
        try:
            os.killpg(agent.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def end_when_dropped():
        os.read(int(held), 1)
        end()

    threading.Thread(target=end_when_dropped, daemon=True).start()
    code = agent.wait()
    end()  # What it left behind.
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
