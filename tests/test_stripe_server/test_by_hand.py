"""`python -m tests.stripe_server` serves until it is interrupted."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from stripe import RequestsClient, StripeClient

from tests.test_stripe_server.hooks import Hooks

ROOT = Path(__file__).resolve().parents[2]


def test_it_serves_by_hand_until_it_is_interrupted(hooks: Hooks) -> None:
    options = ["--port", "0", "--api-key", "sk_test_by_hand", "--webhooks", hooks.url]
    command = [sys.executable, "-m", "tests.stripe_server", *options, "--signing-secret", "whsec_by_hand"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        found = re.search(r"serves (http://\S+) with the key sk_test_by_hand", said)
        assert found is not None, said
        assert said.endswith("signed with whsec_by_hand\n")
        transport = RequestsClient(timeout=30)
        client = StripeClient("sk_test_by_hand", base_addresses={"api": found[1]}, http_client=transport)
        assert client.v1.customers.create({}).id.startswith("cus_")
        transport.close()  # type: ignore[no-untyped-call]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "stopped\n"
    assert process.returncode == 0
