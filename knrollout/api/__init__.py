"""The KnativeRollout resource: its fields, its definition, the annotations that steer it, and the objects around it."""
