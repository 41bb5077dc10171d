"""BuildKit's SBOM protocol, with syft: what BUILDKIT_SCAN_SOURCE has, as an in-toto statement in SPDX.

https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md
"""

import json
import os
import subprocess
from pathlib import Path

source = Path(os.environ["BUILDKIT_SCAN_SOURCE"])
found = subprocess.run(
    ["/syft", "scan", f"dir:{source}", "--output", "spdx-json", "--source-name", source.name],
    env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false", "HOME": "/tmp"},  # noqa: S108 - of a container
    stdout=subprocess.PIPE,
    check=True,
).stdout
statement = {
    "_type": "https://in-toto.io/Statement/v0.1",
    "predicateType": "https://spdx.dev/Document",
    "predicate": json.loads(found),
}
target = Path(os.environ["BUILDKIT_SCAN_DESTINATION"]) / f"{source.name}.spdx.json"
target.write_text(json.dumps(statement))
