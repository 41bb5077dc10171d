"""The contracts with other systems, generated from the code's models: JSON Schemas, OpenAPI and AsyncAPI."""
