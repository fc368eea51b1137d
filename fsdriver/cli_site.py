"""`ckfs site`: folders with a site key, a name key and a policy of their own.

Making one takes two steps: the key hierarchy makes the keys, then the mount makes the folder that
they are for.
"""

import json
import os
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fsdriver.errors import StoreError

if TYPE_CHECKING:
    from keyhierarchy.keystore import Section, SiteRecord

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Folders with keys of their own: somebody's OneDrive, a SharePoint site, a team's files, "
    "a mailbox. Everything below belongs to the site; rename and link across sites give EXDEV, so "
    "programs copy instead.",
)

Path = Annotated[str, typer.Argument(metavar="PATH", help="A path in a mounted store.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Workload = Literal["onedrive", "sharepoint", "teams", "exchange", "skype"]


@app.command(
    epilog="Examples:  ckfs site create /mnt/files/alice --workload onedrive    "
    "ckfs site create /mnt/files/board --workload teams --policy 1f0c..."
)
def create(
    path: Path,
    workload: Annotated[Workload, typer.Option(help="What the site is for.")],
    policy: Annotated[
        str | None, typer.Option(help="Name or id of its policy; default: the first site's.")
    ] = None,
) -> None:
    """Make a new folder that is a site of its own."""
    from fsdriver import control, store  # noqa: PLC0415 keeps --help quick
    from keyhierarchy.creation import create_site  # noqa: PLC0415

    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    if os.path.lexists(path):
        raise StoreError(f"{path} is there already; a site begins with a new folder")
    if not os.path.isdir(parent):
        raise StoreError(f"{parent} is no folder; make it first")
    mount = _mount_of(parent)
    document = store.load(mount["store"])
    site_id = create_site(
        store.control_folder(mount["store"]),
        mount["state_dir"],
        bytes.fromhex(document.store_id),
        secrets.token_bytes(16),  # the id of the folder where it begins
        workload,
        policy=policy,
    ).hex()
    order = json.dumps({"name": name, "site_id": site_id}).encode()
    try:
        os.setxattr(parent, control.MAKE_SITE, order)
        os.mkdir(path, 0o700)
    except OSError as error:
        raise StoreError(
            f"site {site_id} has its keys, but its folder {path} could not be made: "
            f"{error.strerror}"
        ) from None
    typer.echo(f"{path} is site {site_id} now, for {workload}.")


@app.command("list", epilog="Examples:  ckfs site list /mnt/files    ckfs site list --json /srv/s")
def list_sites(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A store, or a path in its mount.")],
    as_json: AsJson = False,
) -> None:
    """Every site of a store."""
    from fsdriver import store  # noqa: PLC0415 as above

    where = path if os.path.lexists(store.control_folder(path)) else _mount_of(path)["store"]
    document = store.load(where)
    sites = _sites(where)
    if as_json:
        typer.echo(json.dumps({"sites": sites}, indent=2))
        return
    for site in sites:
        root = "  (the store's root)" if site["site_id"] == document.site_id else ""
        typer.echo(
            f"{site['site_id']}  {site['workload']:10}  policy {site['policy']}, "
            f"{site['state']}, {site['progress']:.0%} done, "
            f"key generation {site['site_key_generation']}{root}"
        )


@app.command(epilog="Examples:  ckfs site show /mnt/files/alice    ckfs site show --json .")
def show(path: Path, as_json: AsJson = False) -> None:
    """The site that a path belongs to: policy, state, progress, key generation, lease."""
    from fsdriver import control  # noqa: PLC0415 as above

    mount = _mount_of(path)
    try:
        lease = json.loads(os.getxattr(path, control.SITE))
    except OSError as error:
        raise StoreError(f"{path} does not answer: {error.strerror}") from None
    known = [one for one in _sites(mount["store"]) if one["site_id"] == lease["site_id"]]
    # What the mount uses may lag behind the keystore until its next renewal; both are shown.
    facts = {**known[0], "lease": lease} if known else lease
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        shown = (
            ", ".join(f"{key} {one}" for key, one in value.items()) if name == "lease" else value
        )
        typer.echo(f"{name.replace('_', ' '):{width}}  {shown}")


def _sites(where: str) -> list[dict[str, Any]]:
    """What the keystore of a store says of its sites; asks no root key."""
    from fsdriver import store  # noqa: PLC0415 as above
    from keyhierarchy import keystore  # noqa: PLC0415

    document = store.load(where)
    keys = keystore.load(store.control_folder(where), bytes.fromhex(document.store_id))
    return [_facts(section, site) for section in keys.sections for site in section.sites]


def _facts(section: "Section", site: "SiteRecord") -> dict[str, Any]:
    moved = site.is_under(section.policy.current_tik.generation)
    return {
        "site_id": site.site_id,
        "workload": site.workload,
        "policy": section.policy.name,
        "policy_id": site.policy_id,
        "state": section.state.name,
        "progress": 1.0 if moved else 0.0,
        "site_key_generation": site.site_keys[-1].generation,
        "created": site.created,
    }


def _mount_of(path: str) -> dict[str, Any]:
    """The status of the mount that a path lies in; raises NotMounted."""
    from fsdriver import control, mountpoints  # noqa: PLC0415 as above

    where = os.path.realpath(path)
    roots = [
        one.mountpoint
        for one in mountpoints.mounted()
        if where == one.mountpoint or where.startswith(one.mountpoint.rstrip("/") + "/")
    ]
    if not roots:
        raise mountpoints.NotMounted(f"{path} lies in no mounted store; mount it first")
    root = max(roots, key=len)
    try:
        status: dict[str, Any] = json.loads(os.getxattr(root, control.STATUS))
    except OSError as error:
        raise StoreError(f"{root} does not answer: {error.strerror}") from None
    return status
