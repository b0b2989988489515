"""`python -m tests.stripe_server`: the stand-in by hand, until interrupted."""

import argparse
import sys
import threading

from tests.stripe_server.server import StripeServer
from tests.stripe_server.world.world import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a stand-in for Stripe's API on this machine.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--api-key", help="the key to expect; one is made otherwise")
    chosen = parser.parse_args()
    settings = Settings(api_key=chosen.api_key) if chosen.api_key else Settings()
    with StripeServer(host=chosen.host, port=chosen.port, settings=settings) as stripe_server:
        sys.stdout.write(
            f"Stripe's stand-in serves {stripe_server.url} with the key {stripe_server.api_key}\n"
        )
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
