//! What the attacker does, and what it gains by that from one who asks for nothing.

use std::sync::OnceLock;
use std::time::Duration;

use conformance::attacker::dns::{Dns, Of, Proof};
use conformance::attacker::mail::{Certificate, Mail};
use conformance::attacker::web::{Fault, Web};

use crate::oracle::Gain;

pub struct Attack {
    pub name: &'static str,
    pub dns: &'static [Dns],
    pub mail: Mail,
    pub web: Web,
    /// Of a domain that has published nothing, at level `may`.
    pub gains: Gain,
}

/// Cases in which what holds elsewhere was not there, or does not count: the attacker must gain this.
pub const LOST: [(&str, &str, &str, Gain); 15] = [
    // Nothing is published.
    ("strip", "nothing", "opportunistic", Gain::Clear),
    ("strip", "nothing", "dane", Gain::Clear),
    ("strip", "signed, no TLSA", "opportunistic", Gain::Clear),
    ("own certificate", "nothing", "opportunistic", Gain::Told),
    // RFC 8461 section 10.2: one who has never seen the policy can be kept from seeing it.
    ("TXT denied, strip", "STS not known", "opportunistic", Gain::Clear),
    (
        "policy host silent, strip",
        "signed, STS not known",
        "opportunistic",
        Gain::Clear,
    ),
    (
        "policy forged, strip",
        "STS not known",
        "opportunistic",
        Gain::Clear,
    ),
    // A policy goes by another one of the domain's: by its certificate it is the domain that speaks.
    (
        "new policy by the domain itself, strip",
        "older STS kept",
        "opportunistic",
        Gain::Clear,
    ),
    // This level does not ask for MTA-STS.
    ("strip", "STS not known", "dane", Gain::Clear),
    // That TLS was seen says nothing of who it must be,
    ("own certificate", "TLS seen", "opportunistic", Gain::Told),
    // nor of another host than the one that was seen.
    (
        "MX forged to an unsigned host, strip",
        "TLS seen",
        "opportunistic",
        Gain::Clear,
    ),
    // A name that nothing proves is no name: `verify` believes DNS, `strict` does not.
    ("MX forged, own host", "nothing", "verify", Gain::Told),
    ("MX forged, own host", "nothing", "opportunistic", Gain::Told),
    // TLS with anyone.
    ("own certificate", "signed, TLSA", "encrypt", Gain::Told),
    ("strip", "signed, TLSA", "may", Gain::Clear),
];

const NO_MAIL: Mail = Mail::Honest;
const NO_WEB: Web = Web::Honest;
const OWN: Mail = Mail::Impersonate(Certificate::Own);
const LATE: Duration = Duration::from_secs(5);

impl Attack {
    pub const fn honest() -> Self {
        dns("none", &[], Gain::Nothing)
    }

    pub fn is_for_web_only(&self) -> bool {
        self.dns.is_empty() && self.web != NO_WEB
    }

    /// Whether unsigned DNS leads to another host than that of the domain.
    pub fn names_another_host(&self) -> bool {
        self.dns.iter().any(|dns| {
            let denies = matches!(
                dns,
                Dns::NoData(Of::Mx | Of::All, _) | Dns::NoSuchName(Of::Mx | Of::All, _)
            );
            denies || matches!(dns, Dns::ForgeMx | Dns::ForgeUnsignedMx | Dns::ForgeAlias)
        })
    }

    /// Whether the domain itself has withdrawn its policy.
    pub fn is_the_domains_word(&self) -> bool {
        self.web == Web::Broken(Fault::Over)
    }

    /// Whether it forges nothing.
    pub fn only_drops(&self) -> bool {
        let dns = |dns: &Dns| matches!(dns, Dns::Drop(_) | Dns::Late(..) | Dns::Code(..) | Dns::Truncate);
        let mail = match self.mail {
            Mail::Honest | Mail::Reset | Mail::Silent | Mail::CloseAfterEhlo => true,
            Mail::CloseAtHello | Mail::ResetAtHello | Mail::SilentAtHello | Mail::Slow(_) => true,
            Mail::Greet(line) => line.starts_with('4'),
            _ => false,
        };
        let web = matches!(self.web, Web::Honest | Web::Reset | Web::Silent | Web::Slow(_));
        self.dns.iter().all(dns) && mail && web
    }

    /// For how many seconds a resolver is to believe what it hears.
    pub fn keeps(&self) -> u32 {
        let kept = |dns: &Dns| match dns {
            Dns::NoData(_, Proof::For(seconds)) => *seconds,
            _ => 0,
        };
        self.dns.iter().map(kept).max().unwrap_or(0)
    }

    pub fn takes_time(&self) -> bool {
        let dns = |dns: &Dns| matches!(dns, Dns::Drop(_) | Dns::Late(..) | Dns::Truncate | Dns::Code(..));
        let mail = matches!(self.mail, Mail::Silent | Mail::SilentAtHello | Mail::Slow(_));
        self.dns.iter().any(dns) || mail || self.web != NO_WEB
    }
}

const fn dns(name: &'static str, dns: &'static [Dns], gains: Gain) -> Attack {
    with(name, dns, NO_MAIL, gains)
}

const fn with(name: &'static str, dns: &'static [Dns], mail: Mail, gains: Gain) -> Attack {
    Attack {
        name,
        dns,
        mail,
        web: NO_WEB,
        gains,
    }
}

const fn mail(name: &'static str, mail: Mail, gains: Gain) -> Attack {
    with(name, &[], mail, gains)
}

const fn web(name: &'static str, web: Web, mail: Mail) -> Attack {
    Attack {
        web,
        ..with(name, &[], mail, Gain::Nothing)
    }
}

pub fn attacks() -> &'static [Attack] {
    static ALL: OnceLock<Vec<Attack>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        all.extend(of_dns());
        all.extend(of_mail());
        all.extend(of_web());
        all
    })
}

#[rustfmt::skip]
fn of_dns() -> Vec<Attack> {
    use Dns::{Code, Drop, ForgeAddress, ForgeAlias, ForgeMx, ForgeTlsa, ForgeTxt, ForgeUnsignedMx, GarbleTxt, Late, NoData};
    use Dns::{NoSuchName, StripDnssec, StripSignatures, Truncate, Ttl, UnusableTlsa};
    use Gain::{Clear, Nothing, Told};
    const SERVFAIL: u16 = 2;
    const REFUSED: u16 = 5;
    const STRIP: Mail = Mail::Strip;
    vec![
        // Kept from being known.
        dns("all DNS dropped", &[Drop(Of::All)], Nothing),
        dns("MX dropped", &[Drop(Of::Mx)], Nothing),
        dns("addresses dropped", &[Drop(Of::Address)], Nothing),
        with("TLSA dropped, strip", &[Drop(Of::Tlsa)], STRIP, Clear),
        with("TLSA dropped, own certificate", &[Drop(Of::Tlsa)], OWN, Told),
        with("TXT dropped, strip", &[Drop(Of::Txt)], STRIP, Clear),
        with("policy host's address dropped, strip", &[Drop(Of::Web)], STRIP, Clear),
        dns("addresses late", &[Late(Of::Address, LATE)], Nothing),
        dns("all DNS late", &[Late(Of::All, LATE)], Nothing),
        with("TLSA late, strip", &[Late(Of::Tlsa, LATE)], STRIP, Clear),
        with("TXT late, strip", &[Late(Of::Txt, LATE)], STRIP, Clear),
        dns("MX SERVFAIL", &[Code(Of::Mx, SERVFAIL)], Nothing),
        dns("addresses SERVFAIL", &[Code(Of::Address, SERVFAIL)], Nothing),
        with("TLSA SERVFAIL, strip", &[Code(Of::Tlsa, SERVFAIL)], STRIP, Clear),
        with("TLSA REFUSED, own certificate", &[Code(Of::Tlsa, REFUSED)], OWN, Told),
        with("TXT SERVFAIL, strip", &[Code(Of::Txt, SERVFAIL)], STRIP, Clear),
        dns("truncated, and no TCP", &[Truncate], Nothing),
        // Denied.
        with("TLSA denied, strip", &[NoData(Of::Tlsa, Proof::None)], STRIP, Clear),
        with("TLSA NXDOMAIN, strip", &[NoSuchName(Of::Tlsa, Proof::None)], STRIP, Clear),
        with("TLSA denied by another's proof, strip", &[NoData(Of::Tlsa, Proof::Replayed)], STRIP, Clear),
        with("TLSA NXDOMAIN by another's proof, own certificate", &[NoSuchName(Of::Tlsa, Proof::Replayed)], OWN, Told),
        with("TXT denied, strip", &[NoData(Of::Txt, Proof::None)], STRIP, Clear),
        with("TXT denied for an hour, strip", &[NoData(Of::Txt, Proof::For(3600))], STRIP, Clear),
        with("MX denied for an hour, own certificate", &[NoData(Of::Mx, Proof::For(3600)), ForgeAddress], OWN, Told),
        with("TXT NXDOMAIN by another's proof, strip", &[NoSuchName(Of::Txt, Proof::Replayed)], STRIP, Clear),
        with("MX denied, addresses forged, strip", &[NoData(Of::Mx, Proof::None), ForgeAddress], STRIP, Clear),
        dns("MX NXDOMAIN", &[NoSuchName(Of::Mx, Proof::None)], Nothing),
        dns("addresses denied by another's proof", &[NoData(Of::Address, Proof::Replayed)], Nothing),
        dns("addresses NXDOMAIN", &[NoSuchName(Of::Address, Proof::None)], Nothing),
        // Stripped: that a zone is not signed has to be proven as well, and without that no name is known.
        with("signatures stripped, strip", &[StripSignatures], STRIP, Nothing),
        with("DNSSEC stripped, strip", &[StripDnssec], STRIP, Nothing),
        with("DNSSEC stripped, MX forged, own host", &[StripDnssec, ForgeMx], OWN, Nothing),
        with("DNSSEC stripped, TLSA denied, own certificate", &[StripDnssec, NoData(Of::Tlsa, Proof::None)], OWN, Nothing),
        // Forged.
        with("addresses forged, own certificate", &[ForgeAddress], OWN, Told),
        with("addresses forged, strip", &[ForgeAddress], STRIP, Clear),
        dns("MX forged", &[ForgeMx], Nothing),
        with("MX forged, own host", &[ForgeMx], OWN, Told),
        with("MX forged, strip", &[ForgeMx], STRIP, Clear),
        with("MX forged to an unsigned host, strip", &[ForgeUnsignedMx, ForgeAddress], STRIP, Clear),
        with("MX forged to an unsigned host, own certificate", &[ForgeUnsignedMx, ForgeAddress], OWN, Told),
        with("alias forged, own host", &[ForgeAlias], OWN, Told),
        with("TLSA forged, own certificate", &[ForgeTlsa], OWN, Told),
        with("TLSA unusable, own certificate", &[UnusableTlsa], OWN, Told),
        with("TXT forged, strip", &[ForgeTxt], STRIP, Clear),
        with("TXT garbled, own certificate", &[GarbleTxt], OWN, Told),
        with("TTL of ever, strip", &[Ttl(u32::MAX >> 1)], STRIP, Clear),
        with("TTL 0, TXT denied, strip", &[Ttl(0), NoData(Of::Txt, Proof::None)], STRIP, Clear),
        // All at once.
        Attack {
            web: Web::Forge(Certificate::Own),
            ..with("all forged, own host", &[ForgeMx, ForgeTxt, ForgeTlsa, Ttl(86_400)], OWN, Told)
        },
        Attack {
            web: Web::ForgeNone(Certificate::SelfSigned),
            ..with("all forged, strip", &[ForgeMx, ForgeAddress, ForgeTxt, NoData(Of::Tlsa, Proof::None)], STRIP, Clear)
        },
        Attack {
            web: Web::ForgeNone(Certificate::Own),
            ..with("new policy forged, strip", &[ForgeTxt], STRIP, Clear)
        },
        Attack {
            web: Web::Silent,
            ..with("new policy silent, strip", &[ForgeTxt], STRIP, Clear)
        },
        Attack {
            web: Web::Broken(Fault::NotFound),
            ..with("new policy 404, own certificate", &[ForgeTxt], OWN, Told)
        },
        Attack {
            web: Web::Broken(Fault::Over),
            ..with("new policy by the domain itself, strip", &[ForgeTxt], STRIP, Clear)
        },
        Attack {
            web: Web::Broken(Fault::Drip),
            ..with("new policy drips, strip", &[ForgeTxt], STRIP, Clear)
        },
    ]
}

#[rustfmt::skip]
fn of_mail() -> Vec<Attack> {
    use Gain::{Clear, Nothing, Told};
    vec![
        mail("strip the offer alone", Mail::StripOffer, Clear),
        mail("strip", Mail::Strip, Clear),
        mail("overwrite", Mail::Overwrite, Clear),
        mail("454", Mail::Refuse("454 4.7.0 TLS not available due to local problem\r\n"), Clear),
        mail("500", Mail::Refuse("500 5.5.1 unrecognized command\r\n"), Clear),
        mail("clear text behind the go-ahead", Mail::Inject, Nothing),
        mail("greeting 421", Mail::Greet("421 4.3.2 not now\r\n"), Nothing),
        mail("greeting 554", Mail::Greet("554 5.7.1 no\r\n"), Nothing),
        mail("reset", Mail::Reset, Nothing),
        mail("silent", Mail::Silent, Nothing),
        mail("closes after EHLO", Mail::CloseAfterEhlo, Nothing),
        mail("closes in the handshake", Mail::CloseAtHello, Nothing),
        mail("resets in the handshake", Mail::ResetAtHello, Nothing),
        mail("silent in the handshake", Mail::SilentAtHello, Nothing),
        mail("ClientHello garbled", Mail::GarbleClientHello, Clear),
        mail("ServerHello garbled", Mail::GarbleServerHello, Clear),
        mail("slow", Mail::Slow(Duration::from_millis(1200)), Nothing),
        mail("own certificate", OWN, Told),
        mail("self-signed certificate", Mail::Impersonate(Certificate::SelfSigned), Told),
        mail("certificate of an unknown CA", Mail::Impersonate(Certificate::UnknownCa), Told),
        mail("TLS 1.0, own certificate", Mail::OldTls(Certificate::Own), Told),
        mail("TLS 1.0, unknown CA", Mail::OldTls(Certificate::UnknownCa), Told),
    ]
}

fn of_web() -> Vec<Attack> {
    vec![
        web("policy host reset, strip", Web::Reset, Mail::Strip),
        web("policy host silent, strip", Web::Silent, Mail::Strip),
        web("policy host late, strip", Web::Slow(LATE), Mail::Strip),
        web("policy forged, strip", Web::Forge(Certificate::Own), Mail::Strip),
        web(
            "policy forged, unknown CA",
            Web::ForgeNone(Certificate::UnknownCa),
            OWN,
        ),
        web(
            "policy forged, self-signed",
            Web::ForgeNone(Certificate::SelfSigned),
            Mail::Strip,
        ),
        web("policy 404, strip", Web::Broken(Fault::NotFound), Mail::Strip),
        web(
            "policy redirected, own certificate",
            Web::Broken(Fault::Redirect),
            OWN,
        ),
        web("policy huge, strip", Web::Broken(Fault::Huge), Mail::Strip),
        web("policy drips, strip", Web::Broken(Fault::Drip), Mail::Strip),
    ]
}
