"""A command that prints what it was born with, as JSON: words, environment, descriptors."""

import json
import os
import sys
from pathlib import Path


def descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if not target.startswith("/proc/"):
            found[entry.name] = target
    return found


facts = {
    "argv": [os.fsencode(word).hex() for word in sys.argv[1:]],
    "environ": {name.hex(): value.hex() for name, value in os.environb.items()},
    "descriptors": descriptors(),
}
Path(os.environ["LOOK_AT"]).write_text(json.dumps(facts))
