"""Prints the digest of the image that was pushed last, from build/image.json."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.commands import NotReadyError
from pipeline.deploy import pushed

if __name__ == "__main__":
    try:
        sys.stdout.write(pushed(Path("build/image.json")) + "\n")
    except NotReadyError as error:
        sys.exit(f"pushed: {error}")
