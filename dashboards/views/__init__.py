"""One module per page, and one function per region of it."""
