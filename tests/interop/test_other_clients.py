"""Our workers on the local platform, called by the official JavaScript client and by the Rust client."""

import subprocess
from pathlib import Path

from conftest import DEADLINE

HERE = Path(__file__).parent


def drive(command, platform):
    """Runs a client program, which makes its own assertions, and asserts that it succeeds."""
    done = subprocess.run([*command, platform.base_url], cwd=HERE, capture_output=True, text=True, timeout=2 * DEADLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


def test_javascript(platform, ours):
    ours("tokens")
    drive(["node", "client.mjs"], platform)


def test_rust(platform, ours):
    ours("tokens")
    drive([HERE / "rust-client" / "target" / "debug" / "rust-client"], platform)
