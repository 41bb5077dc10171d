"""Who leads, by a Lease. It spares work and noise; what is written is right with two leaders as well."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from kubernetes.client import CoordinationV1Api
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import ApiClient

LEASE_SECONDS: Final = 15
RENEW_SECONDS: Final = 10
RETRY_SECONDS: Final = 2
log = logging.getLogger("knrollout")


def elect(client: ApiClient, name: str, namespace: str, identity: str) -> Callable[[], bool]:
    """Stands for election in a thread of its own. A leader that cannot renew ends the process."""
    leading = threading.Event()
    lock = LeaseLock(name, namespace, identity)
    lock.api_instance = CoordinationV1Api(client)  # its own would be of a cluster that nobody configured

    def lost() -> None:
        log.error("the Lease %s/%s is lost; the process ends", namespace, name)
        os._exit(1)  # a round that hangs in a write must not outlive the Lease

    settings = Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, leading.set, lost)
    threading.Thread(target=LeaderElection(settings).run, name="election", daemon=True).start()
    return leading.is_set
