"""What operators do: actions as events, the desk that takes them, shelve's part of them, and `kn order`."""
