"""Commands of the delivery pipeline that do more than call one tool. Each is a make target."""
