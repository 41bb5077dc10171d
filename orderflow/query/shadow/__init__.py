"""Shadow judgement: the stable revision judges again, without effect, what a release's new revision has judged."""
