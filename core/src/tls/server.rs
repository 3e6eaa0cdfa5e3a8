//! The server's `SSL_CTX`: certificates, which of them is shown to whom, and tickets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::sha::sha256;
use openssl::ssl::{
    NameType, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef, SslSessionCacheMode,
    SslVerifyMode, SslVersion,
};
use openssl::x509::X509Ref;

use super::{bug, ffi, identity::Identity, pem, trust::Trust, watch_index};
use crate::error::{Error, Result};
use crate::name::ServerName;
use crate::outcome::Role;
use crate::rules::{Rules, ServerCert};

/// How long a ticket is good for, in seconds.
const TICKETS_LAST: i64 = 3600;

/// Which certificate is for whom.
pub(super) struct Identities {
    all: Vec<Identity>,
    /// Lower-case names, and `*.DOMAIN` for any one label below it.
    by_name: BTreeMap<String, Vec<usize>>,
    /// For who asks for no name, or for one that none has.
    default: Vec<usize>,
}

/// What a server needs for its handshakes.
pub(super) struct ServerContext {
    pub(super) context: SslContext,
    pub(super) identities: Arc<Identities>,
    pub(super) trust_is_system: bool,
    tickets: Option<Vec<u8>>,
}

impl ServerContext {
    /// Reads all files. `before`: what was in use until now, whose tickets stay good.
    pub(super) fn build(rules: &Rules, before: Option<&Self>) -> Result<Self> {
        let identities = Identities::read(&rules.server_certs)?;
        let mut builder = SslContext::builder(SslMethod::tls_server()).map_err(bug)?;
        super::context::common_settings(&mut builder, rules, Role::Server)?;
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
        let trust = Trust::load(rules)?;
        let trust_is_system = trust.is_system;
        builder.set_cert_store(trust.store);
        ffi::verify_peer_ourselves(&mut builder);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        let digest = digest(rules);
        builder
            .set_session_id_context(digest.get(..32).unwrap_or_default())
            .map_err(bug)?;
        let mut tickets = None;
        if rules.asks_client_cert() {
            ask_for_certificate(&mut builder, rules)?;
            // A resumed session would skip the checks on it.
            builder.set_options(SslOptions::NO_TICKET);
            ffi::server::set_num_tickets(&mut builder, 0);
        } else {
            builder.set_verify(SslVerifyMode::NONE);
            ffi::server::set_session_seconds(&mut builder, TICKETS_LAST);
            if let Some(keys) = before.and_then(|b| b.tickets.as_ref()) {
                ffi::server::set_ticket_keys(&mut builder, keys);
            }
            tickets = ffi::server::ticket_keys(&mut builder);
            ffi::server::bind_tickets_to_names(&mut builder);
        }
        for identity in identities.of(&identities.default) {
            identity.show_always(&mut builder)?;
        }
        ffi::server::choose_for_clients(&mut builder);
        Ok(Self {
            context: builder.build(),
            identities: Arc::new(identities),
            trust_is_system,
            tickets,
        })
    }
}

/// What binds tickets to a policy. Not what its files hold: those are read anew, and tickets stay good.
fn digest(rules: &Rules) -> [u8; 32] {
    let text = format!(
        "{} {:?} {:?} {:?} {:?} {}",
        rules.level.as_str(),
        rules.ca_file,
        rules.ca_path,
        rules.min_tls,
        rules.fingerprints,
        rules.ask_client_cert
    );
    sha256(text.as_bytes())
}

fn ask_for_certificate(builder: &mut SslContextBuilder, rules: &Rules) -> Result<()> {
    let mut mode = SslVerifyMode::PEER;
    if rules.level != crate::level::Level::Encrypt {
        mode |= SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    }
    builder.set_verify(mode);
    if let Some(file) = &rules.ca_file {
        // A client with several certificates chooses by these.
        for ca in pem::certificates(file, "CA file")? {
            builder.add_client_ca(&ca).map_err(bug)?;
        }
    }
    Ok(())
}

/// What is answered to a client's ALPN.
pub(crate) enum Alpn<'a> {
    /// One of those that it offers.
    Chosen(&'a [u8]),
    /// It takes us for another protocol's server (ALPACA): it gets an alert (RFC 7301 §3.2).
    NotOurs,
    /// The protocol has no identifier.
    HasNone,
}

/// The protocol's own identifier, if the client offers it.
pub(crate) fn choose_alpn<'a>(ssl: &SslRef, offered: &'a [u8]) -> Alpn<'a> {
    let watch = watch_index().and_then(|index| ssl.ex_data(index));
    let Some(ours) = watch.and_then(|watch| watch.alpn) else {
        return Alpn::HasNone;
    };
    let mut rest = offered;
    while let Some((length, tail)) = rest.split_first() {
        let Some((protocol, others)) = tail.split_at_checked(usize::from(*length)) else {
            break;
        };
        if protocol == ours.as_bytes() {
            return Alpn::Chosen(protocol);
        }
        rest = others;
    }
    Alpn::NotOurs
}

/// Shows this client the certificate of the name that it asks for.
pub(crate) fn show_identity(ssl: &mut SslRef) {
    if ssl.version2() != Some(SslVersion::TLS1_3) {
        // A ticket of TLS 1.2 crosses in clear and holds the session's secret: the one key for all of them,
        // stolen later, would open all that was recorded. In TLS 1.3 each resumption exchanges keys anew.
        ffi::server::give_no_ticket(ssl);
    }
    let watch = watch_index().and_then(|index| ssl.ex_data(index));
    if let Some(identities) = watch.and_then(|watch| watch.identities.clone()) {
        identities.show(ssl);
    }
}

impl Identities {
    fn read(sources: &[ServerCert]) -> Result<Self> {
        let mut this = Self {
            all: Vec::new(),
            by_name: BTreeMap::new(),
            default: Vec::new(),
        };
        for source in sources {
            match source {
                ServerCert::Files(cert, key) => this.add(Identity::read(cert, key, "server")?, None),
                ServerCert::Memory(cert, key) => this.add(Identity::from_pem(cert, key, "server")?, None),
                ServerCert::Directory(directory) => this.read_directory(directory)?,
            }
        }
        if this.all.is_empty() {
            return Err(Error::invalid(
                "the directory of server certificates holds none (HOST.pem, or HOST.crt and HOST.key)",
            ));
        }
        Ok(this)
    }

    /// `name`: who it is for, whatever names the certificate has.
    fn add(&mut self, identity: Identity, name: Option<String>) {
        let index = self.all.len();
        let names = name.map_or_else(|| names_of(&identity.leaf), |name| vec![name]);
        if self.is_default(&identity) {
            self.default.push(index);
        }
        let kind = identity.kind_of_key();
        for name in names {
            let all = &self.all;
            let of_name = self.by_name.entry(name).or_default();
            // Of two of a kind, such as the new one beside the old, the first is shown.
            let taken = |i: &usize| all.get(*i).is_some_and(|other| other.kind_of_key() == kind);
            if !of_name.iter().any(taken) {
                of_name.push(index);
            }
        }
        self.all.push(identity);
    }

    /// The first, and others for the same names with other kinds of keys.
    fn is_default(&self, identity: &Identity) -> bool {
        let mut default = self.of(&self.default).peekable();
        let Some(first) = default.peek() else {
            return true;
        };
        let names = names_of(&identity.leaf);
        !names.is_empty()
            && names_of(&first.leaf) == names
            && default.all(|d| d.kind_of_key() != identity.kind_of_key())
    }

    fn read_directory(&mut self, directory: &Path) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::invalid(format!(
                "server certificates: {} cannot be read: {e}",
                directory.display()
            ))
        };
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
            .map_err(failed)?;
        files.sort();
        for file in files {
            let extension = file.extension().and_then(OsStr::to_str);
            let Some(kind @ ("pem" | "crt")) = extension else {
                continue;
            };
            let Some(name) = host_of(&file) else {
                continue;
            };
            let key = if kind == "pem" {
                file.clone()
            } else {
                file.with_extension("key")
            };
            self.add(Identity::read(&file, &key, "server")?, Some(name));
        }
        Ok(())
    }

    fn of<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = &'a Identity> {
        indices.iter().filter_map(|i| self.all.get(*i))
    }

    fn show(&self, ssl: &mut SslRef) {
        let asked = ssl.servername(NameType::HOST_NAME).map(ServerName::parse);
        let Some(Ok(ServerName::Dns(name))) = asked else {
            return;
        };
        let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        let found = self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard?));
        let Some(found) = found.filter(|found| **found != self.default) else {
            return;
        };
        ffi::clear_identities(ssl);
        for identity in self.of(found) {
            // Checked when it was read; without it the client gets an alert.
            let _ = identity.show(ssl);
        }
    }
}

/// `HOST.pem` is for HOST, `_.DOMAIN.pem` for any one label below DOMAIN; other files, such as `ca.pem`, are
/// no business of ours.
fn host_of(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let (wildcard, host) = match stem.strip_prefix("_.") {
        Some(domain) => ("*.", domain),
        None => ("", stem),
    };
    match ServerName::parse(host) {
        Ok(ServerName::Dns(name)) if name.contains('.') || name == "localhost" => {
            Some(format!("{wildcard}{name}"))
        }
        _ => None,
    }
}

fn names_of(leaf: &X509Ref) -> Vec<String> {
    let names = leaf.subject_alt_names();
    let dns = names.iter().flatten().filter_map(|n| n.dnsname());
    dns.map(str::to_ascii_lowercase).collect()
}
