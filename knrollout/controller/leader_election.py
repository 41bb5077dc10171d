"""Leader election by a Lease. It saves work and noise; the writes are safe with two leaders as well."""

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


def start_election(client: ApiClient, lease: str, namespace: str, identity: str) -> Callable[[], bool]:
    """Runs in a thread of its own. The result says whether this process leads.

    A leader that cannot renew the Lease exits the process.
    """
    leads = threading.Event()
    lock = LeaseLock(lease, namespace, identity)
    lock.api_instance = CoordinationV1Api(client)  # its default client would have no configuration

    def exit_process() -> None:
        log.error("the Lease %s/%s is lost; the process exits", namespace, lease)
        os._exit(1)  # a write that hangs must not outlive the Lease

    settings = Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, leads.set, exit_process)
    threading.Thread(target=LeaderElection(settings).run, name="election", daemon=True).start()
    return leads.is_set
