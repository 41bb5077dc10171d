"""BuildKit's SBOM protocol by syft: an in-toto statement in SPDX about the folder BUILDKIT_SCAN_SOURCE.

https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md
"""

import json
import os
import subprocess
from pathlib import Path

source = Path(os.environ["BUILDKIT_SCAN_SOURCE"])
sbom = subprocess.run(
    ["/syft", "scan", f"dir:{source}", "--output", "spdx-json", "--source-name", source.name],
    env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false", "HOME": "/tmp"},  # noqa: S108 - in a container
    stdout=subprocess.PIPE,
    check=True,
).stdout
statement = {
    "_type": "https://in-toto.io/Statement/v0.1",
    "predicateType": "https://spdx.dev/Document",
    "predicate": json.loads(sbom),
}
target = Path(os.environ["BUILDKIT_SCAN_DESTINATION"]) / f"{source.name}.spdx.json"
target.write_text(json.dumps(statement))
