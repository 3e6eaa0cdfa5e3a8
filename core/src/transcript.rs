//! The record of what was said in clear.

use crate::outcome::{Line, Speaker};
use crate::rules::Observer;
use crate::text::{hex, printable};
use crate::wire::line::trim_end;

/// Lines of a dialog that are recorded: more than any honest server sends.
const MAX_LINES: usize = 500;

/// Bytes of a binary message that are shown.
const MAX_HEX: usize = 256;

/// The lines so far, which an observer sees as they are said.
#[derive(Default)]
pub(crate) struct Transcript {
    lines: Vec<Line>,
    observer: Option<Observer>,
}

impl Transcript {
    pub(crate) fn new(observer: Option<Observer>) -> Self {
        Self {
            lines: Vec::new(),
            observer,
        }
    }

    /// A message was said: line by line or, where messages are not text, in hex.
    pub(crate) fn record(&mut self, from: Speaker, message: &[u8], binary: bool) {
        for text in message.split_inclusive(|b| *b == b'\n' && !binary) {
            let room = MAX_LINES.saturating_sub(self.lines.len());
            let text = match room {
                0 => return,
                1 => "… and more".to_owned(),
                _ if binary => hex(text.get(..MAX_HEX).unwrap_or(text)),
                _ => printable(trim_end(text)),
            };
            let line = Line { from, text };
            if let Some(see) = &self.observer {
                see(&line);
            }
            self.lines.push(line);
        }
    }

    /// What was recorded is taken back: it was not said.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
    }

    pub(crate) fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }
}
