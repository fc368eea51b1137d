"""One module for each kind of root key; each implements RootKey and imports its own library."""
