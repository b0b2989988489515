"""`python -m tests.stripe_server`: the stand-in by hand, until interrupted."""

import argparse
import signal
import sys
import threading

from tests.stripe_server.server import StripeServer
from tests.stripe_server.world.world import Settings


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a stand-in for Stripe's API on this machine.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--api-key", help="the key to expect; one is made otherwise")
    parser.add_argument("--webhooks", metavar="URL", help="send all events there, as thin notices")
    parser.add_argument("--signing-secret", help="what to sign them with; one is made otherwise")
    chosen = parser.parse_args()
    settings = Settings(api_key=chosen.api_key) if chosen.api_key else Settings()
    stopped = threading.Event()
    # Said here, since a shell starts what runs in its background deaf to interrupts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with StripeServer(host=chosen.host, port=chosen.port, settings=settings) as stripe_server:
        say(f"Stripe's stand-in serves {stripe_server.url} with the key {stripe_server.api_key}")
        if chosen.webhooks:
            made = stripe_server.control.send_events_to(chosen.webhooks, secret=chosen.signing_secret)
            say(f"Events go to {chosen.webhooks}, signed with {made['secret']}")
        stopped.wait()
        say("stopped")


if __name__ == "__main__":
    main()
