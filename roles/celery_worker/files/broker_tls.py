"""Have the app's connections to a broker at amqps:// check its certificate and its name.

Loaded by `celery worker --include=broker_tls`, before anything connects, for any app. Celery by itself checks the
certificate by what the host trusts, and no name.

| environment variable | meaning |
|---|---|
| `CELERY_BROKER_CA` | file with the authorities that the certificate may be of; not set: those that the host trusts |
"""

import os
import ssl

from celery import current_app


def install(app, environ):
    """Set it, in place of what the app has."""
    # With None the name is that of the broker's URL.
    options = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    if environ.get("CELERY_BROKER_CA"):
        options["ca_certs"] = environ["CELERY_BROKER_CA"]
    app.conf.broker_use_ssl = options


install(current_app, os.environ)
