"""`python -m tests.manifests FOLDER ...`: may what these folders make be applied as it is? Exit code 1: it may not.

What the pipeline asks of production once it has set the digest; the tests ask the rest.
"""

import sys
from pathlib import Path

from tests.manifests import rules
from tests.manifests.building import BuildError, build
from tests.manifests.deployments import faults


def main(folders: list[str]) -> int:
    if not folders:
        sys.stderr.write("name the folder: make deployable OVERLAY=knative/overlays/production\n")
        return 2
    try:
        documents = [document for folder in folders for document in build(Path(folder))]
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    findings = list(faults(documents, rules.images_are_digests))
    for fault in findings:
        sys.stderr.write(f"{fault}\n")
    sys.stdout.write(f"{len(documents)} documents, {len(findings)} faults\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
