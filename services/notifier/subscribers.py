"""Which event reaches which part of the workflow."""

from notifier.workflow import Notifications
from shared.consumer import Consumer
from shared.events import EndpointChanged, NotificationRequested


def register(consumer: Consumer, notifications: Notifications) -> None:
    consumer.state(EndpointChanged, notifications.keep_endpoint)
    consumer.state(NotificationRequested, notifications.keep_notification)
