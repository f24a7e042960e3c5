"""`make demo`: brings the product up, runs the demo stream, tells what came of it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from localcluster.cluster import LocalServers
from localcluster.compose import (
    ComposeCluster,
    ComposeFailedError,
    ComposeMissingError,
    host_address,
    require_compose,
)
from sandbox.demo.customer import Customer
from sandbox.demo.model import model_settings
from sandbox.demo.observer import Observer
from sandbox.demo.options import OptionInvalid, Options
from sandbox.demo.report import Report
from sandbox.demo.screen import show_report
from sandbox.demo.show import DemoFailed, Show, outside_world
from sandbox.demo.venue import Venue, compose_venue, private_venue
from sandbox.origin import HlsOrigin
from sandbox.receiver import WebhookReceiver


def main() -> int:
    """The process's exit status: 0 when the demo succeeded, 1 when it did not, 2 for a wrong variable."""
    console = Console()
    try:
        options = Options.from_environment(os.environ)
    except OptionInvalid as error:
        console.print(f"[red]{error}[/red]")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return _with_compose(console, options) if options.target == "compose" else _private(console, options)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130


def _private(console: Console, options: Options) -> int:
    console.print("Starting RabbitMQ and PostgreSQL, private to this run …")
    with LocalServers() as servers:
        return asyncio.run(_demo_in_private(console, options, servers))


def _with_compose(console: Console, options: Options) -> int:
    try:
        require_compose()
        return asyncio.run(_demo_with_compose(console, options, host=host_address()))
    except (ComposeMissingError, ComposeFailedError) as error:
        console.print(f"[red]{error}[/red]", soft_wrap=True)
        return 1


async def _demo_in_private(console: Console, options: Options, servers: LocalServers) -> int:
    async with (
        outside_world(options) as (origin, receiver),
        model_settings(options) as model,
        private_venue(
            console,
            servers,
            reachable=(origin.url, receiver.url),
            model=model,
            telemetry=options.telemetry,
        ) as venue,
    ):
        return await _demo(console, options, venue, origin, receiver)


async def _demo_with_compose(console: Console, options: Options, *, host: str) -> int:
    async with (
        outside_world(options, host=host) as (origin, receiver),
        compose_venue(console, ComposeCluster(), reachable=(origin.url, receiver.url)) as venue,
    ):
        return await _demo(console, options, venue, origin, receiver)


async def _demo(
    console: Console, options: Options, venue: Venue, origin: HlsOrigin, receiver: WebhookReceiver
) -> int:
    report = await _run(console, options, venue, origin, receiver)
    return await _finish(console, options, report, venue)


async def _run(
    console: Console, options: Options, venue: Venue, origin: HlsOrigin, receiver: WebhookReceiver
) -> Report | None:
    console.print(f"API at {venue.api_url}/docs, on air: {origin.url}")
    async with Customer(venue.api_url) as customer, Observer(venue.rabbitmq_url) as observer:
        show = Show(
            options,
            origin,
            receiver,
            customer,
            observer,
            stream_url=venue.seen(origin.url),
            webhook_url=venue.seen(receiver.url),
        )
        try:
            return await show.run(console)
        except (DemoFailed, TimeoutError) as error:
            console.print(f"[red]{type(error).__name__}: {error}; the stream is {show.stream}[/red]")
            return None


async def _finish(console: Console, options: Options, report: Report | None, venue: Venue) -> int:
    if report is None:
        return 1
    show_report(console, report)
    if options.report is not None:
        _write(options.report, report)
    folder = (options.output / report.stream.id).resolve()
    console.print(f"Clips and thumbnails: {folder}")
    for fault in report.faults:
        console.print(f"[red]{fault}[/red]")
    waits = venue.ends_with_us and not options.exit_at_end
    if waits or not venue.ends_with_us:
        console.print(f"The API stays at {venue.api_url}/docs. {venue.farewell}", soft_wrap=True)
    if waits:
        await asyncio.Event().wait()
    return 1 if report.faults else 0


def _write(path: Path, report: Report) -> None:
    path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
