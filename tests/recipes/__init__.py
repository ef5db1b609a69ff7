"""Web apps around one `ThorClient`: README shows these files, and tests run them."""
