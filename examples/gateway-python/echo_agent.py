"""An agent that says what it was told, in the words of `claude -p --output-format json`."""

import argparse
import json
import sys
import uuid

options = argparse.ArgumentParser()
options.add_argument("--resume", default=None)
session_id = options.parse_args().resume or str(uuid.uuid4())
text = sys.stdin.read()
usage = {"input_tokens": len(text.split()), "output_tokens": len(text.split())}
print(json.dumps({"result": f"You said: {text}", "session_id": session_id, "usage": usage}))
