"""Asks a service on this machine whether it is ready, as a container's health check.

`python -m shared.probe` ends with 0 when `/readyz` on OPS_PORT answers 200, else with 1 and what it said.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 3.0


def fault(port: int) -> str | None:
    """None when the service is ready; else the faults that it names, or why it does not answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(2000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return None if answer.status == 200 else text


def main() -> int:
    found = fault(int(os.environ.get("OPS_PORT", "0")))
    if found is None:
        return 0
    sys.stdout.write(f"{found}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
