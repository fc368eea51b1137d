"""Judges `ckfs-vault` by the Azure SDK's own tests: `python tests/conformance/run.py`.

Fetches the source distribution of the installed azure-keyvault-keys with pip, runs the key tests in
it against a vault and a Managed HSM of a server of its own, and prints the counts. Exit code 0 only
when nothing failed, nothing was skipped without a reason below, and the tests were really there.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import xml.etree.ElementTree as ET
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.vault_server import VaultServer, vault_server  # noqa: E402 - needs the path above

PACKAGE = "azure-keyvault-keys"
EXTRA_PACKAGES = ["aiohttp", "pytest-asyncio", "python-dateutil"]
FEWEST_TESTS = 1000
NO_RELEASE = "secure key release: needs an attestation service and hardware that vouches for itself"
LEFT_OUT = {
    "key_release": NO_RELEASE,
    "test_get_key_attestation": "Managed HSM only: attestation needs hardware",
    "test_rsa_public_exponent": "Managed HSM only: the crypto library makes keys with 65537 only",
    "perfstress_tests": "a load generator, not tests",
}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def fetch(target: Path) -> Path:
    """The unpacked source distribution of the version that is installed here."""
    wanted = f"{PACKAGE}=={version(PACKAGE)}"
    options = ["--no-binary", ":all:", "--no-deps", "--quiet", "--dest", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True)
    (archive,) = target.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        sdist.extractall(target, filter="data")
    return next(path for path in target.iterdir() if path.is_dir())


def make_environment(target: Path) -> Path:
    """A throw-away environment: this one's packages, and what only the SDK's tests need."""
    venv.create(target, with_pip=True)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (theirs,) = target.glob("lib/python3.*/site-packages")
    (theirs / "ours.pth").write_text(f"{ours}\n")
    python = target / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", *EXTRA_PACKAGES]
    subprocess.run([str(python), *install], check=True)
    return python


def run_tests(
    python: Path, tests: Path, server: VaultServer, work: Path, arguments: list[str]
) -> int:
    client = server.client()
    standin = Path(__file__).parent / "standin"
    environment = os.environ | {
        "PYTHONPATH": f"{standin}:{ROOT}",
        "AZURE_KEYVAULT_URL": server.url("kv1"),
        "AZURE_MANAGEDHSM_URL": server.url("hsm1"),
        "AZURE_KEYVAULT_ATTESTATION_URL": "https://attestation.test",
        "KEYVAULT_SKU": "premium",
        "KEYVAULT_TENANT_ID": client.tenant_id,
        "KEYVAULT_CLIENT_ID": client.client_id,
        "KEYVAULT_CLIENT_SECRET": client.client_secret,
        # One test makes its client itself and leaves the trust to the surroundings.
        "REQUESTS_CA_BUNDLE": server.ca_path,
        "SSL_CERT_FILE": server.ca_path,
        "CONFORMANCE_AUTHORITY": server.running.authority,
        "CONFORMANCE_CA": server.ca_path,
        "CONFORMANCE_SITE": str(server.folder),
        "CONFORMANCE_LEFT_OUT": json.dumps(LEFT_OUT),
        "CONFORMANCE_LEFT_OUT_FILE": str(work / "left-out.txt"),
    }
    options = ["-p", "conformance_plugin", "-q", "-W", "ignore", "-p", "no:cacheprovider"]
    report = [f"--junitxml={work / 'report.xml'}", "--tb=short", "--color=no"]
    command = [str(python), "-m", "pytest", *options, *report, *(arguments or ["."])]
    return subprocess.run(command, cwd=tests, env=environment, check=False).returncode


def summarize(work: Path, seconds: float, *, whole: bool) -> bool:
    """Prints what happened; True when it is good."""
    suite = ET.parse(work / "report.xml").getroot().find("testsuite")  # noqa: S314 - our own file
    assert suite is not None, "pytest wrote no report"
    number = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors")}
    skips = Counter(
        f"{case.get('classname', '').rpartition('.')[0]}: {skip.get('message')}"
        for case in suite.iter("testcase")
        for skip in case.iter("skipped")
    )
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - skips.total()
    left_out = (work / "left-out.txt").read_text().splitlines()
    _say(f"\nleft out ({len(left_out)}):")
    for line in sorted(left_out):
        _say("  {}: {}".format(*line.split("\t")))
    _say(f"skipped by the tests themselves ({skips.total()}):")
    for reason, count in sorted(skips.items()):
        _say(f"  {count} x {reason}")
    _say(
        f"\n{PACKAGE} {version(PACKAGE)} against ckfs-vault: {passed} passed, {failed} failed, "
        f"{skips.total()} skipped, {len(left_out)} left out, {seconds:.0f} s"
    )
    return failed == 0 and (passed >= FEWEST_TESTS or not whole)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder to work in and to leave for a look")
    parser.add_argument("arguments", nargs="*", help="for pytest, such as -k test_purge")
    options, unknown = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="ckfs-vault-conformance-") as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(exist_ok=True)
        sdist = next(work.glob(f"{PACKAGE.replace('-', '_')}*/"), None) or fetch(work)
        environment = work / "environment"
        python = environment / "bin" / "python"
        if not python.exists():
            python = make_environment(environment)
        arguments = [*options.arguments, *unknown]
        started = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="ckfs-vault-site-") as site,
            vault_server(Path(site) / "site", ("kv1",), hsms=("hsm1",)) as server,
        ):
            code = run_tests(python, sdist / "tests", server, work, arguments)
            sys.stderr.write(server.log())
        good = summarize(work, time.monotonic() - started, whole=not arguments)
    return 0 if good and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
