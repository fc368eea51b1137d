"""The life of a data encryption policy: register, roll, restore, revoke, offboard, purge.

Each verb is a list of steps that a kill may end after any of them; the same verb, or `resume`,
goes on. Nothing that a mount runs may import this package.
"""
