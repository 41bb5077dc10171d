"""What ends a scenario early. The message says what was waited for."""


class FaultError(Exception):
    """The fault could not be brought about, so that nothing was proved."""


class NotSettledError(Exception):
    """The stages did not come to their topics' ends in time."""
