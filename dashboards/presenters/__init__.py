"""From selectors to frozen dataclasses that templates can print without thinking."""
