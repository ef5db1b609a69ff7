"""Web apps around one `ThorClient`: what README shows of them is these files, and tests run them."""
