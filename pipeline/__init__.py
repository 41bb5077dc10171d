"""What the delivery pipeline does beyond calling a tool: each module is a make target, and says what it needs."""
