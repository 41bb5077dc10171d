"""The read API and the operators' console: a Flask application that functions/query.py serves."""
