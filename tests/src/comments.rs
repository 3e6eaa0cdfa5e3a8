//! The dialogs in the comments that open core's protocol files, as plays.

use std::path::Path;

use crate::script::{self, Play};

/// The dialog of a row's comment, at a level that requires TLS, and how the client calls itself in it.
///
/// # Panics
/// If there is none, or it is not understood.
pub fn dialog(protocol: &str) -> (Play, String) {
    // Rows that share a file, and what differs there.
    let (file, theirs, ours) = match protocol {
        "submission" => ("smtp", "", ""),
        "lmtp" => ("smtp", "EHLO", "LHLO"),
        "xmpp-server" => ("xmpp", "jabber:client", "jabber:server"),
        word => (word, "", ""),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../core/src/protocol/{file}.rs"));
    let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let comment: Vec<&str> = source
        .lines()
        .map_while(|l| l.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let lines: Vec<String> = comment
        .iter()
        .skip_while(|l| **l != "```text")
        .skip(1)
        .take_while(|l| **l != "```")
        .map(|l| l.replacen(theirs, ours, usize::from(!theirs.is_empty())))
        .collect();
    let offered = if comment.join(" ").contains("not asked for.") {
        "unknown"
    } else {
        "yes"
    };
    // Some say what comes inside TLS, too.
    let end = if lines.iter().any(|l| l == "(TLS)") {
        ""
    } else {
        "(TLS)\n"
    };
    let text = format!(
        "# The comment of {file}.rs.\noffered: {offered}\nencrypt -> tls\n{}\n{end}",
        lines.join("\n")
    );
    let name = lines
        .iter()
        .find_map(|l| l.strip_prefix("C: EHLO ").or_else(|| l.strip_prefix("C: LHLO ")))
        .unwrap_or("localhost")
        .to_owned();
    let mut plays = script::parse(&format!("{file}.rs"), protocol, &text).unwrap();
    (plays.remove(0), name)
}
