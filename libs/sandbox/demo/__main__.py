"""`make demo`: starts private servers and the six services, runs the demo stream, tells what came of it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from localcluster.cluster import LocalCluster, LocalServers
from localcluster.environment import Installation
from localcluster.installation import set_up
from localcluster.scratch_database import scratch_database
from sandbox.demo.customer import Customer
from sandbox.demo.observer import Observer
from sandbox.demo.options import OptionInvalid, Options
from sandbox.demo.report import Report
from sandbox.demo.screen import show_report
from sandbox.demo.show import DemoFailed, Show, outside_world
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
    console.print("Starting RabbitMQ and PostgreSQL, private to this run …")
    try:
        with LocalServers() as servers:
            return asyncio.run(_demo(console, options, servers))
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130


async def _demo(console: Console, options: Options, servers: LocalServers) -> int:
    async with (
        outside_world(options) as (origin, receiver),
        scratch_database(servers.database_admin_url) as database,
    ):
        installation = Installation(
            rabbitmq_url=servers.rabbitmq_url,
            database_admin_url=database.admin_url,
            roles=database.roles,
            folder=servers.folder,
            outbound_allow=(_host_port(origin.url), _host_port(receiver.url)),
        )
        await set_up(installation)
        console.print("Starting the six services …")
        cluster = LocalCluster(installation.environments(), log_folder=servers.folder / "logs")
        await asyncio.to_thread(cluster.__enter__)
        try:
            report = await _run(console, options, installation, origin, receiver)
            return await _finish(console, options, report, installation)
        finally:
            await asyncio.to_thread(cluster.stop)


async def _run(
    console: Console,
    options: Options,
    installation: Installation,
    origin: HlsOrigin,
    receiver: WebhookReceiver,
) -> Report | None:
    console.print(f"API at {installation.api_url}/docs, on air: {origin.url}")
    async with Customer(installation.api_url) as customer, Observer(installation.rabbitmq_url) as observer:
        show = Show(options, origin, receiver, customer, observer)
        try:
            return await show.run(console)
        except (DemoFailed, TimeoutError) as error:
            console.print(f"[red]{type(error).__name__}: {error}; the stream is {show.stream}[/red]")
            return None


async def _finish(
    console: Console, options: Options, report: Report | None, installation: Installation
) -> int:
    if report is None:
        return 1
    show_report(console, report)
    if options.report is not None:
        _write(options.report, report)
    folder = (options.output / report.stream.id).resolve()
    console.print(f"Clips and thumbnails: {folder}")
    for fault in report.faults:
        console.print(f"[red]{fault}[/red]")
    if not options.exit_at_end:
        console.print(f"The API stays at {installation.api_url}/docs. Ctrl-C ends everything.")
        await asyncio.Event().wait()
    return 1 if report.faults else 0


def _write(path: Path, report: Report) -> None:
    path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _host_port(url: str) -> str:
    return urlsplit(url).netloc


if __name__ == "__main__":
    sys.exit(main())
