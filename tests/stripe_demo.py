"""`make stripe-demo`: Farebox beside a stand-in for Stripe, until interrupted. Nobody pays anything."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress

from tests.stripe_server.server import StripeServer


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve Farebox beside a stand-in for Stripe.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args()
    address = f"http://{chosen.host}:{chosen.port}"
    # The stand-in forgets everything when it ends: a database that remembered would know strangers.
    with StripeServer() as stripe_server, tempfile.TemporaryDirectory() as data:
        hooks = stripe_server.control.send_events_to(f"{address}/webhooks/stripe")
        settings = {
            "FAREBOX_DATA": data,
            "FAREBOX_HOST": chosen.host,
            "FAREBOX_PORT": str(chosen.port),
            "FAREBOX_STRIPE_API_KEY": stripe_server.api_key,
            "FAREBOX_STRIPE_BASE_URL": stripe_server.url,
            "FAREBOX_STRIPE_WEBHOOK_SECRET": hooks["secret"],
        }
        sys.stdout.write(f"Stripe's stand-in serves {stripe_server.url}.\n")
        sys.stdout.flush()
        with subprocess.Popen(
            [sys.executable, "-m", "farebox.cli", "up"], env=os.environ | settings
        ) as farebox:
            # Whoever ends this one ends both.
            signal.signal(signal.SIGTERM, lambda *_: farebox.terminate())
            with suppress(KeyboardInterrupt):
                return farebox.wait()
            return farebox.wait()


if __name__ == "__main__":
    sys.exit(main())
