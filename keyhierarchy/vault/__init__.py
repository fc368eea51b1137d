"""`ckfs-vault`: a local Key Vault for evaluation, tests and air-gapped sites.

It answers the unmodified Azure clients over HTTPS. It is a program of its own: nothing here imports
the rest of `keyhierarchy` or `fsdriver`, and the driver reaches it only through the Azure client.
"""
