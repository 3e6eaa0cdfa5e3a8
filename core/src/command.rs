//! The server's side of a dialog: it hears the client's upgrade command and gives the go-ahead, or
//! the protocol's own refusal.

use crate::dialog::{Dialog, Findings, Refusal, Step};
use crate::wire::Framing;

/// How a server upgrades: one row of the protocol table.
#[derive(Debug)]
pub(crate) struct Server {
    /// How the client's command is delimited.
    pub(crate) framing: Framing,
    /// What is waited for: "the STARTTLS command".
    pub(crate) awaits: &'static str,
    /// Whether the ClientHello follows the command without a go-ahead (MySQL).
    pub(crate) hello_follows: bool,
    /// Whether the protocol has a refusal.
    pub(crate) refuses: bool,
    /// What to answer the command with.
    pub(crate) answer: fn(&[u8]) -> Result<Answer, Refusal>,
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command is not complete: nothing yet.
    Listen,
    /// The client announces its command: nothing yet, but a refusal need not wait for it.
    Announced {
        /// Sent at once by a server that refuses.
        refusal: Vec<u8>,
        /// What the client may already have sent behind the announcement, and is passed over then.
        rest: &'static [u8],
    },
    /// The client wants the upgrade.
    Upgrade {
        /// Sent before the handshake.
        go_ahead: Vec<u8>,
        /// Sent instead; empty where the protocol has none.
        refusal: Vec<u8>,
    },
}

impl Answer {
    /// Answers that are one line each.
    pub(crate) fn lines(go_ahead: &str, refusal: &str) -> Self {
        let line = |text: &str| format!("{text}\r\n").into_bytes();
        Answer::Upgrade {
            go_ahead: line(go_ahead),
            refusal: line(refusal),
        }
    }
}

/// The server's side of a row's dialog; `refuse` sends the refusal.
pub(crate) fn server(row: &'static Server, refuse: bool) -> Box<dyn Dialog> {
    Box::new(Commanded {
        row,
        refuse,
        rest: &[],
    })
}

struct Commanded {
    row: &'static Server,
    refuse: bool,
    /// Of a command that was refused when it was announced.
    rest: &'static [u8],
}

impl Dialog for Commanded {
    fn framing(&self) -> Framing {
        self.row.framing
    }

    fn open(&mut self) -> Step {
        Step::Listen
    }

    fn hear(&mut self, message: &[u8], _: &mut Findings) -> Result<Step, Refusal> {
        Ok(match (self.row.answer)(message)? {
            Answer::Announced { refusal, rest } if self.refuse => {
                self.rest = rest;
                Step::Refuse(refusal)
            }
            Answer::Listen | Answer::Announced { .. } => Step::Listen,
            Answer::Upgrade { go_ahead, .. } if !self.refuse => Step::StartTls(go_ahead),
            Answer::Upgrade { refusal, .. } => Step::Refuse(refusal),
        })
    }

    fn passes_over(&self, bytes: &[u8]) -> bool {
        self.rest.starts_with(bytes)
    }

    fn hello_follows(&self) -> bool {
        self.row.hello_follows
    }

    fn awaits(&self) -> &'static str {
        self.row.awaits
    }
}
