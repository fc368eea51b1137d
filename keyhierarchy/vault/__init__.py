"""`ckfs-vault`: a local Key Vault for evaluation, tests and air-gapped sites.

It answers the unmodified Azure clients over HTTPS. It is a program of its own: nothing here imports
the rest of `keyhierarchy` or `fsdriver`, and the driver reaches it only through the Azure client.

    cli, serve, certificates         start it; TLS; signals
    app, exchange, routes            one request: host, token, permission, limit, operation, answer
    handlers_life, handlers_crypto   what each operation does
    keyring, store, records          the keys of a vault, in memory and on disk
    material, asymmetric, symmetric, usability, rotation     pure rules and cryptography of keys
    authority, tokens, principals    the stand-in for Entra ID
    administration, admin_app, admin_client, faults, broken_answers     for administrators and tests
    resolve                          names below vault.test, and how a client comes to trust the CA

Where it is less than the service: nothing rotates by itself, there are access policies and no
roles, a firewall exists only as a fault, keys of the -HSM types lie in the same sealed files as all
others, and secure key release and attestation are refused. Wording and codes follow recordings of
the service; the codes for a key outside its dates and for one being recovered are inferred.
"""
