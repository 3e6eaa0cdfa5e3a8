"""What a receiving domain wants to hear of TLS with its mail servers (TLSRPT, RFC 8460).

With the standard collector at hand, naming its socket is all:

    policy = starttls.Policy("opportunistic", tlsrpt="/run/tlsrpt/collectd.sock")

For reports of one's own, each attempt becomes an `Event`, and a day's events one `Report` for each domain:

    policy = starttls.Policy("opportunistic", tlsrpt=True)
    reports = Reports("Example Inc.", "tls@example.com")
    for event in events(session):  # or the starttls.Error that was raised instead
        reports.add(event)
    for report in reports.reports():
        print(report.record.rua, report.file_name, len(report.gzip()))
"""

from typing import TYPE_CHECKING

from starttls._core import Collector, Event, Record, Report, Reports, Session
from starttls.errors import Error, InvalidError

if TYPE_CHECKING:
    from asyncio import StreamWriter
    from collections.abc import Iterable

__all__ = ["Collector", "Event", "Record", "Report", "Reports", "events"]


def events(source: "Session | Error | StreamWriter") -> list[Event]:
    """What is to be reported of an attempt and of those before it in the same call, in their order.

    source: the session of `starttls.connect_domain`, the writer of `starttls.aio.connect_domain`, or the error that
    was raised. Empty where the domain does not ask for reports, or was not asked whether it does
    (``Policy(tlsrpt=…)``).
    """
    lines: Iterable[str] | None
    if isinstance(source, Error):
        lines = source._events
    elif isinstance(source, Session):
        lines = source._tlsrpt_events
    else:
        lines = source.get_extra_info("starttls_tlsrpt_events")
        if lines is None:
            raise InvalidError("invalid", "this writer is not one of starttls")
    return [Event.from_json(line) for line in lines]
