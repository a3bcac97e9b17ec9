"""The config API as raw ASGI: answers from memory, without Django and without the database."""
