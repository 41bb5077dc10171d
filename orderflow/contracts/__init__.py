"""What others may rely on, from the code's models: JSON Schema for events, OpenAPI for HTTP, AsyncAPI for topics."""
