"""A peer's bytes, or a file's, as text for people."""

import re

__all__ = ["printable"]

_LINE = 512
# As in the core: what reorders a terminal's text, what nobody sees, what some take for a line end.
_MISLEADING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(line: bytes) -> str:
    r"""A peer's bytes made safe for messages, JSON and terminals: `\xNN`, at most 512 bytes of them."""
    text = line[:_LINE].decode("utf-8", "backslashreplace")
    text = _MISLEADING.sub(lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), text)
    return text + "…" if len(line) > _LINE else text
