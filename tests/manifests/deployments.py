"""Which folders make up one deployment, and what is held against each."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.manifests import rules, schemas
from tests.manifests.building import ROOT, Document, build

NAMES = ("local", "staging", "production")


def deployment(name: str) -> tuple[Document, ...]:
    """The Services of an overlay, and the sources that feed them."""
    sources = Path("kafka-source/overlays") / name
    if not (ROOT / sources).is_dir():
        sources = Path("kafka-source/base")
    return build(Path("knative/overlays") / name) + build(sources)


def faults(documents: Sequence[Document], *more: rules.Rule) -> Iterator[str]:
    """What the schemas and the rules find, `more` of them included."""
    for document in documents:
        yield from (f"{rules.named(document)}: {fault}" for fault in schemas.faults(document))
    for rule in (*rules.ALWAYS, *more):
        yield from rule(documents)
