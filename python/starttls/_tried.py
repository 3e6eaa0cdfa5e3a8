"""The hosts of a domain that would not do, for `starttls.aio`; elsewhere the core keeps the account."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

from starttls import errors
from starttls._core import Collector, Event
from starttls.errors import Error
from starttls.outcome import Outcome

# Another host would not mend it.
_OURS = ("invalid", "unsupported", "bug")


class Tried:
    """What happened at each host, and whom it is told to."""

    def __init__(self, domain: str, collector: "str | PathLike[str] | None") -> None:
        """collector: the socket of the TLSRPT collector."""
        self._domain = domain
        self._collector = collector
        self._errors: list[Error] = []
        self._outcomes: list[Outcome] = []
        # Lines of JSON.
        self.events: list[str] = []
        self._ended = False

    def over(self, e: Error) -> bool:
        """Takes a host's error; whether it is the last word."""
        if self._ended:
            return True
        if e.word in _OURS:
            self._tell(e, e.outcome and self._with_attempts(e.outcome), [*self.events, *e._events])
            return True
        self._errors.append(e)
        self.events += e._events
        if e.outcome:
            self._outcomes += [*e.outcome.attempts, replace(e.outcome, attempts=())]
        return False

    def error(self) -> Error:
        """What to say when all have failed.

        One that may mend itself counts for more than one that will not: the message is worth keeping.
        """
        self._ended = True
        if not self._errors:
            return errors.make("timeout", f"{self._domain}: no time was left for any host", True, None, None)
        chosen = next((e for e in reversed(self._errors) if e.temporary), self._errors[-1])
        message = chosen.message
        if len(self._errors) > 1:
            hosts = [f"{e.outcome.peer.name if e.outcome else '?'}: {e}" for e in self._errors]
            message = f"no mail host of {self._domain} will do: {'; '.join(hosts)}"
        outcome = chosen.outcome
        if outcome and len(self._errors) > 1:
            own = replace(outcome, attempts=())
            others = tuple(one for one in self._outcomes if one != own)
            outcome = replace(own, attempts=others)
        told = errors.make(chosen.word, message, chosen.temporary, None, chosen.errno)
        self._tell(told, outcome, self.events)
        return told

    def told(self, outcome: Outcome, events: Sequence[str]) -> Outcome:
        """The outcome of a session, with what was before it."""
        notes = self._send([*self.events, *events])
        outcome = self._with_attempts(outcome)
        return replace(outcome, notes=(*outcome.notes, *notes))

    def _with_attempts(self, outcome: Outcome) -> Outcome:
        return replace(outcome, attempts=(*self._outcomes, *outcome.attempts))

    def _tell(self, e: Error, outcome: Outcome | None, events: list[str]) -> None:
        e._events = events
        notes = self._send(events)
        if outcome:
            e._json = replace(outcome, notes=(*outcome.notes, *notes)).to_json()
            e._outcome = None

    def _send(self, events: Sequence[str]) -> list[str]:
        """A note if the collector could not be told."""
        try:
            if self._collector is not None:
                collector = Collector(self._collector)
                for line in events:
                    collector.send(Event.from_json(line))
        except Error as e:
            # Of the others it would say the same.
            return [e.message]
        return []
